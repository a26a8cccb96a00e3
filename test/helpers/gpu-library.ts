import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Where Vulkan's loader looks for drivers on Debian and its relatives. */
const DRIVER_FOLDERS = ['/usr/share/vulkan/icd.d', '/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d'];

const PACKAGE = new URL('../gpu/node_modules/@node-llama-cpp/linux-x64-vulkan/bins/linux-x64-vulkan/', import.meta.url);

/**
 * Folder of ggml with its Vulkan backend. Without that package, or without Mesa's software driver (which is a device on every
 * machine), undefined and one warning that says what is skipped and what enables it:
 *
 *     const folder = gpuLibraryFolder();
 *     describe.skipIf(folder === undefined)('vulkan', ...)
 */
export function gpuLibraryFolder(): string | undefined {
  const missing = [
    ...(existsSync(PACKAGE) ? [] : ['ggml with Vulkan: npm ci --prefix test/gpu']),
    ...(hasSoftwareDriver() ? [] : ["Mesa's software driver: apt-get install --no-install-recommends mesa-vulkan-drivers libvulkan1"]),
  ];
  if (missing.length > 0) {
    console.warn(`SKIPPED: tests on a Vulkan device. Missing:\n${missing.map((line) => `  ${line}`).join('\n')}`);
    return undefined;
  }
  // ggml passes over devices of type CPU unless they are named.
  process.env['GGML_VK_VISIBLE_DEVICES'] ??= '0';
  return fileURLToPath(PACKAGE);
}

function hasSoftwareDriver(): boolean {
  return DRIVER_FOLDERS.some((folder) => existsSync(folder) && readdirSync(folder).some((name) => /^lvp_icd.*\.json$/.test(name)));
}
