import { describe, expect, it } from "vitest";
import { emptyBatch } from "../src/session/types";
import type { Batch } from "../src/session/types";
import { Writer } from "../src/transport/writer";

const batch = (part: Partial<Batch>): Batch => ({ ...emptyBatch(), ...part });
const cursor = (next: bigint): Batch => batch({ cursor: { next, resumeToken: new Uint8Array() } });

/** A disk whose writes end when the test says so. */
function slowDisk(): { write: (batch: Batch) => Promise<void>; written: Batch[]; finish: (error?: Error) => Promise<void> } {
  const written: Batch[] = [];
  let end: ((error?: Error) => void) | undefined;
  return {
    written,
    write: (b) => {
      written.push(b);
      return new Promise((resolve, reject) => (end = (error) => (error ? reject(error) : resolve())));
    },
    finish: async (error) => {
      end?.(error);
      await new Promise((resolve) => setTimeout(resolve));
    },
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

describe("writer", () => {
  it("what comes while the disk is busy goes together in the next transaction, in order", async () => {
    const disk = slowDisk();
    const log: unknown[] = [];
    const writer = new Writer(disk.write, (tickets) => log.push(tickets), () => log.push("failed"));
    writer.add(1, cursor(1n));
    await turn();
    for (let i = 2; i <= 50; i += 1) writer.add(i, cursor(BigInt(i)));
    writer.then(() => log.push("then"));
    writer.add(51, batch({ cursor: null }));
    expect(disk.written).toHaveLength(1);
    await disk.finish();
    expect(log).toEqual([[1]]);
    expect(disk.written).toHaveLength(2);
    expect(disk.written[1]?.cursor?.next).toBe(50n);
    await disk.finish();
    expect(log.slice(1)).toEqual([Array.from({ length: 49 }, (_, i) => i + 2), "then"]);
    expect(disk.written[2]?.cursor).toBeNull();
    await disk.finish();
    await writer.flushed();
    expect(log.at(-1)).toEqual([51]);
  });

  it("after a failed write nothing more is written", async () => {
    const disk = slowDisk();
    const log: unknown[] = [];
    const writer = new Writer(disk.write, (tickets) => log.push(tickets), (error) => log.push(error));
    writer.add(1, cursor(1n));
    await turn();
    writer.add(2, cursor(2n));
    const error = new Error("full");
    await disk.finish(error);
    writer.add(3, cursor(3n));
    await turn();
    expect(log).toEqual([error]);
    expect(disk.written).toHaveLength(1);
  });
});
