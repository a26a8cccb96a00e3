/** Which rows of which weights stay in memory, and which are read from disk for every sweep. */
import { ARENA_ALIGNMENT } from '../tensor/device.ts';
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
}

export interface LayerPlacement {
  /** In memory from the first sweep on. Of a weight that several layers use, each of them has the same object. */
  readonly resident: readonly WeightRows[];
  /** Behind the resident rows, read anew for every sweep. */
  readonly streamed: readonly WeightRows[];
}

export interface WeightPlacement {
  readonly layers: readonly LayerPlacement[];
  /** Bytes of memory that the resident rows take. */
  readonly residentBytes: number;
  /** Bytes that a sweep reads. */
  readonly streamedBytes: number;
  /** Bytes of memory that the largest streamed part of a layer takes. */
  readonly slotBytes: number;
}

/** Rows that kernels keep together: FLX_PANEL. */
const PANEL_ROWS = 32;
/** A cut may be moved by so much of a weight for the sake of reads that begin at a page of the file. */
const MOST_MOVED = 1 / 16;

/** Bytes that rows take in an arena, whose tensors begin at pages. */
export const placedBytes = ({ byteLength }: Pick<WeightRows, 'byteLength'>): number =>
  Math.ceil(byteLength / ARENA_ALIGNMENT) * ARENA_ALIGNMENT;

const sumOf = (rows: readonly WeightRows[]): number => rows.reduce((sum, each) => sum + placedBytes(each), 0);

/**
 * Keeps the share `resident` (0 to 1) of every layer's bytes in memory: whole weights in their order, then a part of one. Vectors and routers are small and
 * stay in any case. `splitLookups`: tables and stacks of experts may be cut as well.
 */
export function placeWeights({ layers }: Pick<WeightPlan, 'layers'>, resident: number, splitLookups = true): WeightPlacement {
  const tied = new Map(tiedWeights(layers).map((weight) => [weight, part(weight, 0, cutOf(weight, resident, splitLookups))]));
  const placed = layers.map((weights) => placeLayer(weights, resident, splitLookups, tied));
  return {
    layers: placed,
    residentBytes: sumOf([...new Set(placed.flatMap(({ resident: rows }) => rows))]),
    streamedBytes: placed.reduce((sum, { streamed }) => sum + streamed.reduce((bytes, rows) => bytes + rows.byteLength, 0), 0),
    slotBytes: Math.max(0, ...placed.map(({ streamed }) => sumOf(streamed))),
  };
}

/** Weights that several layers use: the same rows of them stay for all. */
function tiedWeights(layers: WeightPlan['layers']): PlannedWeight[] {
  const all = layers.flat();
  return [...new Set(all.filter((weight, i) => all.indexOf(weight) !== i))];
}

/** `tied` has the resident rows of weights that other layers use as well. */
function placeLayer(
  weights: readonly PlannedWeight[],
  share: number,
  splitLookups: boolean,
  tied: ReadonlyMap<PlannedWeight, WeightRows>,
): LayerPlacement {
  const free = weights.filter((weight) => isLarge(weight) && !tied.has(weight));
  let left = share * free.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const resident: WeightRows[] = [];
  const streamed: WeightRows[] = [];
  for (const weight of weights) {
    const rows = weight.spec.shape[0] ?? 1;
    const known = tied.get(weight);
    const cut = known?.to ?? cutOf(weight, left / weight.byteLength, splitLookups);
    if (free.includes(weight)) left -= weight.byteLength * (cut / rows);
    if (cut > 0) resident.push(known ?? part(weight, 0, cut));
    if (cut < rows) streamed.push(part(weight, cut, rows));
  }
  return { resident, streamed };
}

const isLarge = ({ spec }: PlannedWeight): boolean => spec.role !== 'vector' && spec.role !== 'router';

/** How many rows stay, when the share `wanted` of a large weight should. Sums of shares are inexact, so almost all is all. */
function cutOf(weight: PlannedWeight, wanted: number, splitLookups: boolean): number {
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

function part(weight: PlannedWeight, from: number, to: number): WeightRows {
  const { spec, deviceType } = weight;
  if (from > to) throw internalError(`${spec.name}: rows ${from} to ${to}`);
  const columns = elementCount(spec.shape) / (spec.shape[0] ?? 1);
  return { weight, from, to, byteLength: byteLengthOf(deviceType, (to - from) * columns) };
}
