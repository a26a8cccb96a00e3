/** `npm run bench -- NAME [--json] [--rounds N]`: one line a figure. Speeds are shares of a limit that is measured in the same run. */
import { UsageError } from '../src/util/errors.ts';
import { parseBenchArguments } from './arguments.ts';
import { type Bench, printFigure } from './figure.ts';
import { accuracy } from './accuracy.ts';
import { attention } from './attention.ts';
import { conversion } from './conversion.ts';
import { gemm } from './gemm.ts';
import { layer } from './layer.ts';
import { loading } from './loading.ts';
import { model } from './model.ts';
import { offload } from './offload.ts';
import { peers } from './peers.ts';
import { prefix } from './prefix.ts';
import { sampling } from './sampling.ts';
import { throughput } from './throughput.ts';

const BENCHES: Readonly<Record<string, Bench>> = {
  gemm,
  attention,
  layer,
  sampling,
  model,
  peers,
  throughput,
  prefix,
  conversion,
  loading,
  offload,
  accuracy,
};

// A reader that goes away (`| head`) wants no more figures.
process.stdout.on('error', () => process.exit());

try {
  const { name, json, options } = parseBenchArguments(process.argv.slice(2), Object.keys(BENCHES));
  for await (const figure of BENCHES[name]!(options)) printFigure(figure, json);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(error.message);
  console.error(
    `usage: npm run bench -- ${Object.keys(BENCHES).join('|')} [--json] [--rounds N] [--model NAME]... [--block N]... [--dtype TYPE] [--type TYPE]...`,
  );
  process.exitCode = 2;
}
