import { describe, expect, it } from 'vitest';
import { LLM } from '../../../src/llm.ts';
import type { LoadOptions } from '../../../src/llm/load-options.ts';
import { fixtureFolder } from '../../helpers/golden.ts';

const load = (options: LoadOptions) => LLM.load(fixtureFolder('opt'), { device: 'reference', compute: 'f32', ...options });

describe('without a GPU', () => {
  it('a model says which limits bound nothing', async () => {
    const notices: string[] = [];
    await using limited = await load({ gpus: 2, vramBytes: 1e9, onNotice: (notice) => notices.push(notice) });
    expect(limited.plan.host).toBeUndefined();
    expect(notices).toEqual(['there is no GPU: --vram bounds nothing', 'there is no GPU: --gpus bounds nothing']);
    await expect(load({ gpus: 0 })).rejects.toThrow('gpus: a positive integer expected, got 0');
  });
});
