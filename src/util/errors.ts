/** Base of every error thrown on purpose: `code` is stable for programs, `facts` are for logs, the message is for people. */
export class FlexError extends Error {
  readonly code: string;
  readonly facts: Readonly<Record<string, unknown>>;

  constructor(code: string, message: string, facts: Readonly<Record<string, unknown>> = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    this.facts = facts;
  }
}

/** A file is not what it claims to be. The message says which file, where, what was expected and what was found. */
export class FormatError extends FlexError {
  constructor(file: string, problem: string, facts: Readonly<Record<string, unknown>> = {}, options?: ErrorOptions) {
    super('format', `${file}: ${problem}`, { file, ...facts }, options);
  }
}

/** The caller asked for something that cannot be: a wrong flag, path or parameter. Nothing was started. */
export class UsageError extends FlexError {
  constructor(message: string, facts: Readonly<Record<string, unknown>> = {}, options?: ErrorOptions) {
    super('usage', message, facts, options);
  }
}

/** Something needs more memory than there is. The message has both numbers and a way out. */
export class MemoryError extends FlexError {
  constructor(message: string, facts: Readonly<Record<string, unknown>> = {}, options?: ErrorOptions) {
    super('memory', message, facts, options);
  }
}

/** The native side is missing, is another version, or failed. Says what was tried. */
export class NativeError extends FlexError {
  constructor(message: string, facts: Readonly<Record<string, unknown>> = {}, options?: ErrorOptions) {
    super('native', message, facts, options);
  }
}

/** One request cannot be served (too long, bad parameter); others go on. */
export class RequestError extends FlexError {
  constructor(message: string, facts: Readonly<Record<string, unknown>> = {}, options?: ErrorOptions) {
    super('request', message, facts, options);
  }
}

/** A computed value is not a number. Names the row and the layer where it first appeared. */
export class NumericError extends FlexError {
  constructor(message: string, facts: Readonly<Record<string, unknown>> = {}, options?: ErrorOptions) {
    super('numeric', message, facts, options);
  }
}

/** A model of the hub cannot be had: it is missing, gated or private, or the network failed. Says what to do. */
export class HubError extends FlexError {
  constructor(message: string, facts: Readonly<Record<string, unknown>> = {}, options?: ErrorOptions) {
    super('hub', message, facts, options);
  }
}

/** A broken invariant of our own code. */
export function internalError(message: string): Error {
  return new Error(`internal: ${message}`);
}
