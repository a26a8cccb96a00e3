import { LLM } from './dist/index.js';
import { readFileSync } from 'node:fs';
const io = () => Number(/^read_bytes: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))![1]);
const [file, mem, rows, len, gen] = process.argv.slice(2);
await using llm = await LLM.load(file!, { memoryBytes: Number(mem) * 2 ** 30, gpuBatchSize: Number(rows), onNotice: console.log } as any);
console.log(JSON.stringify(llm.plan.weights), JSON.stringify(llm.plan.bytes));
let last = performance.now(), b = io();
const prompts = Array.from({ length: Number(rows) }, (_, r) => ({ prompt: Array.from({ length: Number(len) }, (_, i) => 4 + ((i * 7919 + r * 104729) % 2000)), params: { maxTokens: Number(gen), ignoreEos: true } }));
for await (const e of llm.stream(prompts as any)) if (e.type === 'sweep') { const n = performance.now(), x = io(); console.log(((n - last) / 1000).toFixed(2), 's', ((x - b) / 1e9 / ((n - last) / 1000)).toFixed(2), 'GB/s', JSON.stringify((e as any).stats.tokens), (process.memoryUsage.rss() / 1e6).toFixed(0)); last = n; b = x; }
