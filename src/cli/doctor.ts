import { statfsSync } from 'node:fs';
import os from 'node:os';
import { loadKernels } from '../native/kernels.ts';
import { openGgml } from '../native/open-ggml.ts';
import { findLibraryDirectory, installedPackage, PACKAGE_VERSION, packagesFor } from '../native/libraries.ts';
import { cpuFacts, type CpuFacts } from '../util/cpu-features.ts';
import { memoryFacts, processorFacts, type MemoryFacts, type ProcessorFacts } from '../util/machine.ts';
import { formatBytes } from '../util/units.ts';
import { describeError } from './exit-code.ts';
import { findModels, modelPlaces, type FoundModel } from './find-models.ts';
import { packageVersion } from './package-version.ts';
import { renderFacts, renderTable } from './render.ts';

/** What `flexllmgen doctor --json` prints. */
export interface DoctorReport {
  readonly version: string;
  readonly node: string;
  readonly platform: string;
  readonly cpu: CpuFacts & ProcessorFacts;
  readonly memory: MemoryFacts;
  readonly disk: readonly { readonly name: string; readonly path: string; readonly freeBytes: number }[];
  /** Missing when the libraries cannot be used; `missing` says why. */
  readonly ggml?: {
    readonly version: string;
    /** With the variant that suits this processor best, such as `cpu zen4`. */ readonly backend: string;
    readonly origin: string;
  };
  /** Instruction set of our own kernels. Missing where products run on ggml's. */
  readonly kernels?: string;
  readonly gpu: readonly GpuFacts[];
  readonly models: readonly FoundModel[];
  readonly missing: readonly Missing[];
}

export interface GpuFacts {
  readonly backend: string;
  readonly package: string;
  readonly installed: boolean;
  /** Installs it; needs the network. */
  readonly command: string;
}

export interface Missing {
  readonly what: string;
  /** The command, or the deed, that adds it. */
  readonly fix: string;
  /** Nothing works without it. */
  readonly required: boolean;
}

const GPU_BACKENDS = ['cuda', 'vulkan', 'metal'] as const;
/** The bundled model with its default block and cache; what is less makes even the demo fail. */
const LEAST_MEMORY_BYTES = 400e6;

/** `flexllmgen doctor`. Exit status 1 when something is missing without which nothing works. */
export async function doctor(options: { readonly json?: boolean }): Promise<number> {
  const report = await examine();
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : renderReport(report));
  return report.missing.some(({ required }) => required) ? 1 : 0;
}

/** Looks at this machine. Loads the tensor library, but no model. */
export async function examine(): Promise<DoctorReport> {
  const missing: Missing[] = [];
  const memory = memoryFacts();
  const ggml = examineGgml(missing);
  const kernels = examineKernels(missing);
  const gpu = examineGpus();
  for (const { backend, installed, command } of gpu) {
    if (!installed) missing.push({ what: `GPU backend ${backend}, if this machine has such a GPU`, fix: command, required: false });
  }
  const models = await findModels();
  if (!models.some(({ origin }) => origin === 'bundled'))
    missing.push({ what: 'the bundled model', fix: 'reinstall flexllmgen', required: true });
  if (memory.availableBytes < LEAST_MEMORY_BYTES)
    missing.push({
      what: `memory: ${formatBytes(memory.availableBytes)} free`,
      fix: `have ${formatBytes(LEAST_MEMORY_BYTES)} at least`,
      required: true,
    });
  return {
    version: packageVersion(),
    node: process.version,
    platform: `${os.platform()} ${os.arch()} ${os.release()}`,
    cpu: { ...cpuFacts(), ...processorFacts() },
    memory,
    disk: diskRoom(),
    ...(ggml && { ggml }),
    ...(kernels !== undefined && { kernels }),
    gpu,
    models,
    missing,
  };
}

function examineGgml(missing: Missing[]): DoctorReport['ggml'] {
  try {
    const { name, base, directory } = openGgml('cpu', findLibraryDirectory('cpu'));
    return { version: base.version(), backend: name, origin: directory.origin };
  } catch (error) {
    const name = packagesFor('cpu')[0];
    const fix = name === undefined ? 'use Linux, macOS or Windows on x64 or arm64' : `npm install ${name}@${PACKAGE_VERSION}`;
    missing.push({ what: `the tensor library: ${describeError(error)}`, fix, required: true });
    return undefined;
  }
}

function examineKernels(missing: Missing[]): string | undefined {
  const kernels = loadKernels();
  if (!kernels && process.env['FLEXLLMGEN_ISA'] !== 'ggml')
    missing.push({
      what: "own kernels for this processor: products run on ggml's, several times slower for large batches",
      fix: 'install a C++ compiler, then npm rebuild flexllmgen (in a checkout: npm run build)',
      required: false,
    });
  return kernels?.isa;
}

function examineGpus(): GpuFacts[] {
  return GPU_BACKENDS.flatMap((backend) =>
    packagesFor(backend).map((name) => ({
      backend,
      package: name,
      installed: installedPackage([name]) !== undefined,
      command: `npm install --no-save ${name}@${PACKAGE_VERSION}`,
    })),
  );
}

function diskRoom(): DoctorReport['disk'] {
  const places: [string, string][] = [
    ['current folder', process.cwd()],
    ['temporary files', os.tmpdir()],
    ['Hugging Face cache', modelPlaces().hubCache],
  ];
  return places.flatMap(([name, path]) => {
    try {
      const { bavail, bsize } = statfsSync(path);
      return { name, path, freeBytes: bavail * bsize };
    } catch {
      return [];
    }
  });
}

export function renderReport(report: DoctorReport): string {
  const { cpu, memory, ggml } = report;
  const cores = cpu.physical === undefined ? '' : `${cpu.physical} cores, `;
  const quota = cpu.quota === undefined ? '' : `, limited to ${cpu.quota} by its control group`;
  const limit =
    memory.cgroupLimitBytes === undefined
      ? 'no control group limit'
      : `limited to ${formatBytes(memory.cgroupLimitBytes)} by its control group`;
  const facts: [string, string][] = [
    ['flexllmgen', `${report.version}, Node ${report.node}, ${report.platform}`],
    ['processor', cpu.model],
    ['features', cpu.features?.join(' ') || 'unknown'],
    ['threads', `${cpu.threads} (${cores}${cpu.logical} logical processors${quota})`],
    ['memory', `${formatBytes(memory.availableBytes)} free of ${formatBytes(memory.totalBytes)}, ${limit}`],
    ['disk', report.disk.map(({ name, path, freeBytes }) => `${formatBytes(freeBytes)} free for ${name} (${path})`).join('\n')],
    ['ggml', ggml ? `${ggml.version}, backend ${ggml.backend}, from ${ggml.origin}` : 'missing'],
    ['kernels', report.kernels ?? "none, ggml's are used"],
    [
      'GPU backends',
      report.gpu.map((gpu) => `${gpu.backend}: ${gpu.installed ? 'installed' : 'not installed'}`).join('\n') || 'none for this platform',
    ],
  ];
  return `${renderFacts(facts)}\nModels:\n${renderModels(report.models)}\n${renderMissing(report.missing)}`;
}

function renderModels(models: readonly FoundModel[]): string {
  const rows = models.map(({ name, type, weightBytes, origin, path, problem }) => [
    name,
    type,
    weightBytes > 0 ? formatBytes(weightBytes) : '-',
    origin === 'bundled' ? '(default)' : path,
    problem ?? '',
  ]);
  return renderTable([{ title: 'model' }, { title: 'type' }, { title: 'weights', align: 'right' }, { title: '-m' }, { title: '' }], rows);
}

function renderMissing(missing: readonly Missing[]): string {
  if (missing.length === 0) return 'Nothing is missing.\n';
  return `Missing:\n${missing.map(({ what, fix, required }) => `  ${required ? 'required' : 'optional'}: ${what}\n    ${fix}\n`).join('')}`;
}
