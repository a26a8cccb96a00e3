import type { Upload } from './weight-uploader.ts';

interface Turn {
  readonly order: number;
  readonly begin: () => Promise<void>;
}

/** Reads of weights, one after the other: of those that wait, the one that is needed first. */
export class ReadTurns {
  readonly #waiting: Turn[] = [];
  #busy = false;
  #failure: { readonly cause: unknown } | undefined;

  /**
   * Calls `read` in its turn, which ends when everything is on its way. `order` decides among those that wait, the lowest comes first.
   * @returns resolves when everything is on the device. @throws what reading threw, this time or earlier
   */
  async take(order: number, read: () => Promise<readonly Upload[]>): Promise<void> {
    try {
      const uploads = await this.#inTurn(order, read);
      await Promise.all(uploads.map(({ done }) => done));
    } catch (cause) {
      this.#failure ??= { cause };
      throw cause;
    }
  }

  #inTurn<T>(order: number, read: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const begin = async (): Promise<void> => {
        if (this.#failure) reject(this.#failure.cause);
        else await read().then(resolve, reject);
      };
      this.#waiting.push({ order, begin });
      void this.#work();
    });
  }

  async #work(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    while (this.#waiting.length > 0) await this.#takeFirst().begin();
    this.#busy = false;
  }

  #takeFirst(): Turn {
    const least = this.#waiting.reduce((best, turn) => (turn.order < best.order ? turn : best));
    this.#waiting.splice(this.#waiting.indexOf(least), 1);
    return least;
  }
}
