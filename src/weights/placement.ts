/** Which rows of which weights stay on the device, which in RAM beside it, and which are read from disk for every sweep. */
import { ARENA_ALIGNMENT, type Device } from '../tensor/device.ts';
import { byteLengthOf, elementCount } from '../tensor/dtype.ts';
import { internalError } from '../util/errors.ts';
import type { PlannedWeight, WeightPlan } from './weight-plan.ts';

/** Rows `from` to `to` of a weight. */
export interface WeightRows {
  readonly weight: PlannedWeight;
  readonly from: number;
  readonly to: number;
  /** On the device. */
  readonly byteLength: number;
  /** That they take in an arena: its tensors begin at pages. */
  readonly placedBytes: number;
}

/** Rows that pass through the memory of the device. */
export interface PassingRows extends WeightRows {
  /** The same rows in RAM, from which they are copied; of a weight that several layers use, the same object. Without, they are read from disk. */
  readonly held?: WeightRows | undefined;
}

export interface LayerPlacement {
  /** In the device's memory from the first sweep on. Of a weight that several layers use, each of them has the same object. */
  readonly resident: readonly WeightRows[];
  /** Behind the resident rows, brought anew for every sweep. */
  readonly streamed: readonly PassingRows[];
}

export interface WeightPlacement {
  readonly layers: readonly LayerPlacement[];
  /** Bytes of the device's memory that the resident rows take. */
  readonly residentBytes: number;
  /** Bytes of RAM that rows take which a sweep copies to the device. */
  readonly heldBytes: number;
  /** Bytes that a sweep copies from RAM. */
  readonly uploadedBytes: number;
  /** Bytes that a sweep reads from disk. */
  readonly streamedBytes: number;
  /** Bytes of the device's memory that the largest streamed part of a layer takes. */
  readonly slotBytes: number;
}

/** Shares of the bytes of every layer, 0 to 1; the rest is on disk. */
export interface TierShares {
  /** In the device's memory. */
  readonly resident: number;
  /** In RAM beside a device with memory of its own. */
  readonly held: number;
}

/** What a device makes of placements. */
export interface PlacementRules {
  /** Tables and stacks of experts may be cut as well. */
  readonly splitLookups: boolean;
  /** That must follow a placed tensor. */
  readonly paddingBytes: number;
}

const NO_RULES: PlacementRules = { splitLookups: true, paddingBytes: 0 };

export const placementRules = ({ capabilities, arenaRules }: Pick<Device, 'capabilities' | 'arenaRules'>): PlacementRules => ({
  splitLookups: capabilities.splitLookups,
  paddingBytes: arenaRules?.paddingBytes ?? 0,
});

/** Rows that kernels keep together: FLX_PANEL. */
const PANEL_ROWS = 32;
/** A cut may be moved by so much of a weight for the sake of reads that begin at a page of the file. */
const MOST_MOVED = 1 / 16;

const sumOf = (rows: readonly WeightRows[]): number => rows.reduce((sum, each) => sum + each.placedBytes, 0);
const bytesOf = (rows: readonly WeightRows[]): number => rows.reduce((sum, each) => sum + each.byteLength, 0);

/**
 * Keeps the shares of every layer's bytes, or the share that a number says, in memory: whole weights in their order, then a part of one, first in the
 * device's memory, then in RAM. Vectors and routers are small and stay on the device in any case.
 */
export function placeWeights(
  { layers }: Pick<WeightPlan, 'layers'>,
  shares: number | TierShares,
  rules: PlacementRules = NO_RULES,
): WeightPlacement {
  const { resident, held } = typeof shares === 'number' ? { resident: shares, held: 0 } : shares;
  const ends: Ends = [resident, resident + held];
  const tied = new Map([...tiedWeights(layers)].map((weight) => [weight, cutWeight(weight, ends, rules)]));
  const placed = layers.map((weights) => placeLayer(weights, ends, rules, tied));
  const passing = placed.flatMap(({ streamed }) => streamed);
  return {
    layers: placed,
    residentBytes: sumOf([...new Set(placed.flatMap(({ resident: rows }) => rows))]),
    heldBytes: sumOf([...new Set(passing.flatMap((rows) => rows.held ?? []))]),
    uploadedBytes: bytesOf(passing.filter((rows) => rows.held)),
    streamedBytes: bytesOf(passing.filter((rows) => !rows.held)),
    slotBytes: Math.max(0, ...placed.map(({ streamed }) => sumOf(streamed))),
  };
}

/** Where the part on the device ends, and where that in RAM does: shares, bytes or rows. */
type Ends = readonly [device: number, memory: number];

/** A weight in its tiers. Empty parts are undefined. */
interface CutWeight {
  readonly cuts: Ends;
  readonly resident: WeightRows | undefined;
  readonly held: WeightRows | undefined;
}

/** Weights that several layers use: the same rows of them stay for all. */
function tiedWeights(layers: WeightPlan['layers']): Set<PlannedWeight> {
  const seen = new Set<PlannedWeight>();
  const tied = new Set<PlannedWeight>();
  for (const weight of layers.flat()) (seen.has(weight) ? tied : seen).add(weight);
  return tied;
}

function cutWeight(weight: PlannedWeight, ends: Ends, rules: PlacementRules): CutWeight {
  const device = cutOf(weight, ends[0], rules);
  const memory = Math.max(device, cutOf(weight, ends[1], rules));
  return { cuts: [device, memory], resident: part(weight, 0, device, rules), held: part(weight, device, memory, rules) };
}

/** `tied` has what stays of weights that other layers use as well. */
function placeLayer(
  weights: readonly PlannedWeight[],
  ends: Ends,
  rules: PlacementRules,
  tied: ReadonlyMap<PlannedWeight, CutWeight>,
): LayerPlacement {
  const free = new Set(weights.filter((weight) => isLarge(weight) && !tied.has(weight)));
  const total = [...free].reduce((sum, { byteLength }) => sum + byteLength, 0);
  let left: Ends = [ends[0] * total, ends[1] * total];
  const resident: WeightRows[] = [];
  const streamed: PassingRows[] = [];
  for (const weight of weights) {
    const { byteLength } = weight;
    const rows = weight.spec.shape[0] ?? 1;
    const cut = tied.get(weight) ?? cutWeight(weight, [left[0] / byteLength, left[1] / byteLength], rules);
    if (free.has(weight)) left = [left[0] - byteLength * (cut.cuts[0] / rows), left[1] - byteLength * (cut.cuts[1] / rows)];
    if (cut.resident) resident.push(cut.resident);
    if (cut.held) streamed.push({ ...cut.held, held: cut.held });
    const rest = part(weight, cut.cuts[1], rows, rules);
    if (rest) streamed.push(rest);
  }
  return { resident, streamed };
}

const isLarge = ({ spec }: PlannedWeight): boolean => spec.role !== 'vector' && spec.role !== 'router';

/** How many rows come before a cut at the share `wanted` of a large weight; all of a small one. Sums of shares are inexact, so almost all is all. */
function cutOf(weight: PlannedWeight, wanted: number, { splitLookups }: PlacementRules): number {
  const rows = weight.spec.shape[0] ?? 1;
  if (!isLarge(weight) || wanted > 1 - 1e-9) return rows;
  const step = stepOf(weight, rows, splitLookups);
  return Math.min(rows, Math.max(0, Math.round((wanted * rows) / step)) * step);
}

/** Rows that a cut must be a multiple of. */
function stepOf({ spec, source, deviceType }: PlannedWeight, rows: number, splitLookups: boolean): number {
  const parts = spec.stack?.count ?? 1;
  if ((parts > 1 || spec.role === 'table') && !splitLookups) return rows;
  if (parts > 1) return rows / parts;
  if (spec.shape.length !== 2 || rows <= PANEL_ROWS) return rows;
  const panelBytes = byteLengthOf(source.dtype, PANEL_ROWS * spec.shape[1]!);
  let step = PANEL_ROWS;
  while (deviceType === source.dtype && ((step / PANEL_ROWS) * panelBytes) % ARENA_ALIGNMENT !== 0) step *= 2;
  return step <= rows * MOST_MOVED ? step : PANEL_ROWS;
}

/** Undefined without any rows. */
function part(weight: PlannedWeight, from: number, to: number, { paddingBytes }: PlacementRules): WeightRows | undefined {
  const { spec, deviceType } = weight;
  if (from > to) throw internalError(`${spec.name}: rows ${from} to ${to}`);
  if (from === to) return undefined;
  const columns = elementCount(spec.shape) / (spec.shape[0] ?? 1);
  const byteLength = byteLengthOf(deviceType, (to - from) * columns);
  const placedBytes = Math.ceil((byteLength + paddingBytes) / ARENA_ALIGNMENT) * ARENA_ALIGNMENT;
  return { weight, from, to, byteLength, placedBytes };
}
