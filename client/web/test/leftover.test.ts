import { describe, expect, it } from "vitest";
import { finishSending, hasLeftovers } from "../src/device/leftover";
import type { PendingSend, Saved } from "../src/session/types";

const send: PendingSend = { id: new Uint8Array(16), chat: "dm:a:b", messageType: 1, body: new Uint8Array(), sendTsMs: 0 };

function saved(pending: PendingSend[]): Saved {
  return { cursor: undefined, tracks: new Map(), pending, unconfirmedReads: new Map(), skewMs: 0 };
}

describe("what a closed tab left unsent", () => {
  it("is what was not refused", () => {
    expect(hasLeftovers(saved([]))).toBe(false);
    expect(hasLeftovers(saved([{ ...send, failed: { code: 30, text: "" } }]))).toBe(false);
    expect(hasLeftovers(saved([send]))).toBe(true);
  });

  it("is worked on until nothing is left, and given up after a while", async () => {
    let left = 3;
    let stopped = 0;
    const worker = { pending: async () => left, stop: () => void (stopped += 1) };
    expect(await finishSending(worker, async () => void (left -= 1))).toBe(true);
    let slept = 0;
    left = 1;
    expect(await finishSending(worker, async (ms) => void (slept += ms))).toBe(false);
    expect(slept).toBe(120_000);
    expect(stopped).toBe(2);
  });
});
