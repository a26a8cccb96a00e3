import { describe, expect, it } from 'vitest';
import { PagePool } from '../../../src/kv/page-pool.ts';
import { NULL_PAGE } from '../../../src/tensor/device.ts';

describe('PagePool', () => {
  it('reserves, takes the lowest page first, and counts what is left', () => {
    const pool = new PagePool(4);
    expect([pool.capacity, pool.available]).toEqual([4, 4]);
    expect([pool.reserve(3), pool.available]).toEqual([true, 1]);
    expect([pool.reserve(2), pool.available]).toEqual([false, 1]);
    expect([pool.take(), pool.take(), pool.take()]).toEqual([1, 2, 3]);
    expect(pool.available).toBe(1);
    pool.release(2);
    expect([pool.available, pool.reserve(2), pool.take(), pool.take()]).toEqual([2, true, 2, 4]);
    expect([pool.available, pool.reserve(1), pool.reserve(0)]).toEqual([0, false, true]);
  });

  it('keeps a page until its last holder lets go', () => {
    const pool = new PagePool(1);
    pool.reserve(1);
    const page = pool.take();
    pool.retain(page);
    pool.release(page);
    expect([pool.available, pool.reserve(1)]).toEqual([0, false]);
    pool.release(page);
    expect(pool.available).toBe(1);
  });

  it('gives reservations back', () => {
    const pool = new PagePool(3);
    pool.reserve(3);
    pool.take();
    pool.unreserve(2);
    expect(pool.available).toBe(2);
  });

  it.each<[string, (pool: PagePool) => unknown, RegExp]>([
    ['taking without a reservation', (pool) => pool.take(), /1 pages given back, 0 are reserved/],
    ['giving back more than is reserved', (pool) => pool.reserve(1) && pool.unreserve(2), /2 pages given back, 1 are reserved/],
    ['releasing a free page', (pool) => pool.release(2), /page 2 is released, but nobody holds it/],
    ['releasing the null page', (pool) => pool.release(NULL_PAGE), /page 0 is released/],
    ['releasing a page that does not exist', (pool) => pool.release(9), /page 9 is released/],
    ['sharing a free page', (pool) => pool.retain(1), /page 1 is shared, but nobody holds it/],
    ['sharing a page that does not exist', (pool) => pool.retain(9), /page 9 is shared/],
  ])('refuses %s', (_what, misuse, message) => {
    expect(() => misuse(new PagePool(2))).toThrow(message);
  });
});
