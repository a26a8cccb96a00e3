/**
 * For tests of recovery: `FLEXLLMGEN_CRASH_AT=name` or `name:n` kills the process with SIGKILL when the point `name` is passed for the n-th
 * time, as a power cut would. Without the variable a point costs one call of an empty function.
 * @param before what to leave behind first, such as half a line
 */
export const crashPoint: (name: string, before?: () => void) => void = plan(process.env.FLEXLLMGEN_CRASH_AT);

function plan(spec: string | undefined): (name: string, before?: () => void) => void {
  if (spec === undefined || spec === '') return () => {};
  const [target, times = '1'] = spec.split(':');
  let left = Number(times);
  return (name, before) => {
    if (name !== target || --left !== 0) return;
    before?.();
    process.kill(process.pid, 'SIGKILL');
  };
}
