import { describeCpuVariant } from './cpu-variant.ts';

describeCpuVariant('haswell');
