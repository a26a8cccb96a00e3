import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const ENTRY = 'src/index.ts';

describe('public names', () => {
  it('change only on purpose', () => {
    expect(publicNames()).toMatchInlineSnapshot(`
      [
        "FlexError",
        "FormatError",
        "LLM",
        "MemoryError",
        "NativeError",
        "NumericError",
        "RequestError",
        "UsageError",
        "type ChatMessage",
        "type DeviceName",
        "type ExecutionPlan",
        "type FinishReason",
        "type FloatType",
        "type GenerationEvent",
        "type GenerationParams",
        "type GenerationRequest",
        "type GenerationResult",
        "type GeneratorInfo",
        "type HostBytes",
        "type HostPlan",
        "type KvType",
        "type LaneName",
        "type LaneTotals",
        "type LoadOptions",
        "type ModelShape",
        "type PlanBytes",
        "type PlannedHomes",
        "type PositionLogprobs",
        "type PromptInput",
        "type RunSeconds",
        "type RunStats",
        "type RunTokens",
        "type StreamOptions",
        "type TextGenerator",
        "type TokenLogprob",
      ]
    `);
  });
});

/** Values and types that the package exports, types marked. */
function publicNames(): string[] {
  const { config } = ts.readConfigFile('tsconfig.json', (path) => ts.sys.readFile(path)) as { config: unknown };
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, '.');
  const program = ts.createProgram([ENTRY], options);
  const checker = program.getTypeChecker();
  const symbols = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(ENTRY)!)!);
  return symbols.map((symbol) => name(checker, symbol)).toSorted();
}

function name(checker: ts.TypeChecker, symbol: ts.Symbol): string {
  const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  return target.flags & ts.SymbolFlags.Value ? symbol.name : `type ${symbol.name}`;
}
