/** Plain double-precision loops over row-major arrays: what devices are compared with. Shares no code with any device. */

export function naiveLinear(
  x: ArrayLike<number>,
  w: ArrayLike<number>,
  { rows, inputs, outputs }: { rows: number; inputs: number; outputs: number },
): number[] {
  const y: number[] = [];
  for (let m = 0; m < rows; m++) {
    for (let n = 0; n < outputs; n++) {
      let sum = 0;
      for (let k = 0; k < inputs; k++) sum += x[m * inputs + k]! * w[n * inputs + k]!;
      y.push(sum);
    }
  }
  return y;
}

export function naiveNorm(x: ArrayLike<number>, columns: number, epsilon: number): number[] {
  const y: number[] = [];
  for (let from = 0; from < x.length; from += columns) {
    const row = Array.from({ length: columns }, (_, c) => x[from + c]!);
    const mean = row.reduce((a, b) => a + b, 0) / columns;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / columns;
    y.push(...row.map((value) => (value - mean) / Math.sqrt(variance + epsilon)));
  }
  return y;
}

export function naiveRmsNorm(x: ArrayLike<number>, columns: number, epsilon: number): number[] {
  return Array.from(x, (value, i) => {
    const from = i - (i % columns);
    let squares = 0;
    for (let c = 0; c < columns; c++) squares += x[from + c]! ** 2;
    return value / Math.sqrt(squares / columns + epsilon);
  });
}

export interface NaiveRope {
  readonly headDim: number;
  readonly rotaryDims: number;
  readonly style: 'half' | 'interleaved';
  readonly divisors: ArrayLike<number>;
  readonly factor: number;
}

/** One token's row. Each pair is a complex number that is multiplied by factor * exp(i angle). */
export function naiveRope(x: ArrayLike<number>, position: number, { headDim, rotaryDims, style, divisors, factor }: NaiveRope): number[] {
  return Array.from(x, (value, column) => {
    const inHead = column % headDim;
    if (inHead >= rotaryDims) return value;
    const half = rotaryDims / 2;
    const [pair, isFirst] = style === 'half' ? [inHead % half, inHead < half] : [Math.trunc(inHead / 2), inHead % 2 === 0];
    const distance = style === 'half' ? half : 1;
    const angle = position / divisors[pair]!;
    const turned = isFirst
      ? value * Math.cos(angle) - x[column + distance]! * Math.sin(angle)
      : value * Math.cos(angle) + x[column - distance]! * Math.sin(angle);
    return factor * turned;
  });
}

export function naiveSigmoid(x: number): number {
  return 0.5 + 0.5 * Math.tanh(x / 2);
}

export function naiveSilu(x: number): number {
  return x * naiveSigmoid(x);
}

/** x times the logistic function of twice the tanh's argument. */
export function naiveGeluTanh(x: number): number {
  return x / (1 + Math.exp(-2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
}

export function naiveRelu(x: number): number {
  return Math.max(0, x);
}

/** By Simpson's rule over the bell curve, to about 1e-12 for |x| up to 10. */
export function naiveGelu(x: number): number {
  const steps = 4000;
  const h = x / steps;
  const bell = (t: number): number => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  let sum = bell(0) + bell(x);
  for (let i = 1; i < steps; i++) sum += (i % 2 === 1 ? 4 : 2) * bell(i * h);
  return x * (0.5 + (sum * h) / 3);
}

export interface NaiveHeads {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  readonly window?: number;
  readonly softcap?: number;
  /** The weights of other than this share of the positions before the last one count as nothing, once they have been divided by their sum. */
  readonly sparsity?: number;
}

/** The last of the positions is the query's own. One query over `keys` and `values`, one array of kvHeads * headDim numbers for each position that it sees. */
export function naiveAttention(
  q: ArrayLike<number>,
  keys: readonly ArrayLike<number>[],
  values: readonly ArrayLike<number>[],
  { heads, kvHeads, headDim, scale, window = Infinity, softcap, sparsity = 1 }: NaiveHeads,
): number[] {
  const y: number[] = [];
  for (let head = 0; head < heads; head++) {
    const first = Math.trunc(head / (heads / kvHeads)) * headDim;
    const weights = keys.map((key, position) => {
      if (keys.length - position > window) return 0;
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot += q[head * headDim + d]! * key[first + d]!;
      const score = dot * scale;
      return Math.exp(softcap === undefined ? score : softcap * Math.tanh(score / softcap));
    });
    const total = weights.reduce((a, b) => a + b, 0);
    const count = Math.trunc(sparsity * (Math.min(window, keys.length) - 1));
    const isUsed = weights.map((weight, position) => {
      if (sparsity === 1 || position === keys.length - 1) return true;
      const before = weights.filter((other, i) => i < keys.length - 1 && (other > weight || (other === weight && i < position)));
      return before.length < count;
    });
    for (let d = 0; d < headDim; d++) {
      let sum = 0;
      values.forEach((value, position) => (sum += isUsed[position] ? (weights[position]! / total) * value[first + d]! : 0));
      y.push(sum);
    }
  }
  return y;
}

export interface NaiveExperts {
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
  readonly experts: number;
  readonly used: number;
  readonly normalise: boolean;
  readonly activate: (x: number) => number;
}

/** Every expert computes every token; the shares of those not chosen are 0. */
export function naiveMoe(
  x: Float32Array,
  logits: ArrayLike<number>,
  { gate, up, down }: Readonly<Record<'gate' | 'up' | 'down', Float32Array>>,
  { rows, columns, inner, experts, used, normalise, activate }: NaiveExperts,
): number[] {
  const y = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const own = Array.from({ length: experts }, (_, e) => logits[row * experts + e]!);
    const least = [...own].sort((a, b) => b - a)[used - 1]!;
    const exponentials = own.map((logit) => Math.exp(logit));
    const total = exponentials.reduce((sum, value, e) => (normalise && own[e]! < least ? sum : sum + value), 0);
    const token = x.subarray(row * columns, (row + 1) * columns);
    for (let e = 0; e < experts; e++) {
      if (own[e]! < least) continue;
      const part = (weight: Float32Array): Float32Array => weight.subarray(e * inner * columns, (e + 1) * inner * columns);
      const opened = naiveLinear(token, part(gate), { rows: 1, inputs: columns, outputs: inner }).map(activate);
      const upper = naiveLinear(token, part(up), { rows: 1, inputs: columns, outputs: inner });
      const hidden = opened.map((value, i) => value * upper[i]!);
      naiveLinear(hidden, part(down), { rows: 1, inputs: inner, outputs: columns }).forEach(
        (value, c) => (y[row * columns + c]! += (exponentials[e]! / total) * value),
      );
    }
  }
  return [...y];
}
