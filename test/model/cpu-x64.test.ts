import { describeCpuVariant } from './cpu-variant.ts';

describeCpuVariant('x64');
