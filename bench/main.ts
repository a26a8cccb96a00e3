/** `npm run bench -- NAME [--json] [--rounds N]`: one line a figure. Speeds are shares of a limit that is measured in the same run. */
import { parseArgs } from 'node:util';
import { type Bench, type BenchOptions, printFigure } from './figure.ts';
import { throughput } from './throughput.ts';

const BENCHES: Readonly<Record<string, Bench>> = { throughput };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    model: { type: 'string', multiple: true },
    block: { type: 'string', multiple: true },
  },
});

const name = positionals[0] ?? '';
const bench = BENCHES[name];
const rounds = Number(values.rounds);
if (!bench || !Number.isInteger(rounds) || rounds < 1) {
  console.error(`usage: npm run bench -- ${Object.keys(BENCHES).join('|')} [--json] [--rounds N] [--model NAME]... [--block N]...`);
  process.exit(2);
}
const options: BenchOptions = {
  rounds,
  ...(values.model && { models: values.model }),
  ...(values.block && { blocks: values.block.map(Number) }),
};
for await (const figure of bench(options)) printFigure(figure, values.json);
