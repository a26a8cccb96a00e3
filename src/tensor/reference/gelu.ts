/** x * Phi(x), with the normal distribution function and not its tanh approximation. */
export function gelu(x: number): number {
  return 0.5 * x * (1 + erf(x / Math.SQRT2));
}

/** The approximation with tanh. Source: Hendrycks and Gimpel 2016, arXiv:1606.08415. */
export function geluTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

/** From here on, erf is 1 to the last bit of a double. */
const SATURATION = 6;

/**
 * The error function, to about 1e-15. erf(x) = 2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (1*3*5*...*(2n+1)): all terms have one
 * sign, so nothing cancels. Source: Abramowitz and Stegun, 7.1.6.
 */
export function erf(x: number): number {
  if (Number.isNaN(x)) return NaN;
  if (Math.abs(x) >= SATURATION) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > Math.abs(sum) * 1e-17; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
