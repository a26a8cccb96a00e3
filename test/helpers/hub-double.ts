/** A hub on this machine: the routes that a download needs, and the faults that real ones have. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const COMMIT = 'c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00';

export interface DoubleFile {
  readonly content: Buffer;
  /** Kept as a large file: its hash is SHA-256, and it comes from another address. */
  readonly large?: boolean;
  /** What the listing says instead of the true hash. */
  readonly listedHash?: string;
}

export interface DoubleOptions {
  readonly repository?: string;
  readonly files: Readonly<Record<string, DoubleFile>>;
  /** Needed for everything. */
  readonly token?: string;
  /** For requests of the model's description: status and the hub's words. */
  readonly refusal?: { readonly status: number; readonly error: string };
  /** Answers without regard to ranges. */
  readonly ignoreRanges?: boolean;
  /** Bytes after which the connection of each of the first `times` transfers breaks. */
  readonly breaks?: { readonly after: number; readonly times: number };
  /** Status of the first `times` transfers. */
  readonly busy?: { readonly status: number; readonly times: number };
  /** Files on a page of the listing. Default 2. */
  readonly pageSize?: number;
}

export interface SeenRequest {
  readonly host: 'hub' | 'storage';
  readonly path: string;
  readonly range?: string;
  readonly authorised: boolean;
}

/** Disposing ends both servers. */
export class HubDouble implements AsyncDisposable {
  readonly endpoint: string;
  readonly seen: SeenRequest[] = [];
  readonly #options: DoubleOptions;
  readonly #servers: Server[];
  readonly #storage: string;
  #transfers = 0;

  private constructor(options: DoubleOptions, servers: Server[]) {
    this.#options = options;
    this.#servers = servers;
    [this.endpoint, this.#storage] = servers.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`) as [
      string,
      string,
    ];
    servers[0]!.on('request', (request, response) => this.#answer('hub', request, response));
    servers[1]!.on('request', (request, response) => this.#answer('storage', request, response));
  }

  static async start(options: DoubleOptions): Promise<HubDouble> {
    const servers = [createServer(), createServer()];
    await Promise.all(servers.map((server) => new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))));
    return new HubDouble(options, servers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#servers.map((server) => {
        server.closeAllConnections();
        return new Promise((resolve) => server.close(resolve));
      }),
    );
  }

  get #repository(): string {
    return this.#options.repository ?? 'owner/model';
  }

  #answer(host: 'hub' | 'storage', request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url!, this.endpoint);
    const { authorization, range } = request.headers;
    const authorised = authorization !== undefined;
    this.seen.push({ host, path: decodeURIComponent(url.pathname), authorised, ...(range !== undefined && { range }) });
    const { token } = this.#options;
    if (host === 'hub' && token !== undefined && authorization !== `Bearer ${token}`)
      return json(response, 401, { error: 'Invalid credentials' });
    const api = `/api/models/${this.#repository}`;
    if (url.pathname.startsWith(`${api}/revision/`)) return this.#describe(response);
    if (url.pathname.startsWith(`${api}/tree/`)) return this.#list(url, response);
    const [, path] = new RegExp(`^/(?:stored|${this.#repository}/resolve/${COMMIT})/(.*)$`).exec(decodeURIComponent(url.pathname)) ?? [];
    const file = path === undefined ? undefined : this.#options.files[path];
    if (!file) return json(response, 404, { error: 'Repository not found' });
    if (host === 'hub' && file.large) {
      response.writeHead(302, { location: `${this.#storage}/stored/${path}` });
      return void response.end();
    }
    this.#send(file.content, range, response);
  }

  #describe(response: ServerResponse): void {
    const { refusal } = this.#options;
    if (refusal) return json(response, refusal.status, { error: refusal.error });
    json(response, 200, {
      _id: '1',
      id: this.#repository,
      sha: COMMIT,
      private: false,
      gated: false,
      downloads: 1,
      likes: 1,
      lastModified: '2026-01-01',
    });
  }

  #list(url: URL, response: ServerResponse): void {
    const { files, pageSize = 2 } = this.#options;
    const start = Number(url.searchParams.get('cursor') ?? 0);
    const page = Object.entries(files).slice(start, start + pageSize);
    if (start + pageSize < Object.keys(files).length) {
      const next = new URL(url);
      next.searchParams.set('cursor', String(start + pageSize));
      response.setHeader('link', `<${next.href}>; rel="next"`);
    }
    json(response, 200, [
      { type: 'directory', path: 'onnx', size: 0, oid: '0'.repeat(40) },
      ...page.map(([path, file]) => {
        const size = file.content.length;
        const hash = file.listedHash ?? hashOf(file);
        return file.large
          ? { type: 'file', path, size, oid: '1'.repeat(40), lfs: { oid: hash, size, pointerSize: 130 } }
          : { type: 'file', path, size, oid: hash };
      }),
    ]);
  }

  #send(content: Buffer, range: string | undefined, response: ServerResponse): void {
    const { breaks, busy, ignoreRanges } = this.#options;
    const turn = this.#transfers++;
    if (busy && turn < busy.times) {
      response.writeHead(busy.status, { 'retry-after': '0' });
      return void response.end();
    }
    const start = ignoreRanges ? 0 : Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
    const body = content.subarray(start);
    const ranged = start > 0 && { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` };
    response.writeHead(start > 0 ? 206 : 200, { 'content-length': body.length, ...ranged });
    if (!breaks || turn >= breaks.times) return void response.end(body);
    response.write(body.subarray(0, breaks.after), () => setTimeout(() => response.destroy(), 20));
  }
}

export function hashOf({ content, large }: DoubleFile): string {
  if (large) return createHash('sha256').update(content).digest('hex');
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}
