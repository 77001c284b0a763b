//! The worked bytes of docs/protocol.md, read and written by this codec.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { decodeClientFrames, decodeServerFrames, encodeFrame } from "../src/protocol/frames";
import { hex, unhex } from "../src/protocol/ids";
import { WireError } from "../src/protocol/proto";

const page = readFileSync(fileURLToPath(new URL("../../../docs/protocol.md", import.meta.url)), "utf8");

function blocks(side: string): string[] {
  const found = [...page.matchAll(new RegExp(`^\`\`\`hex ${side}\\n([\\s\\S]*?)^\`\`\``, "gm"))];
  return found.map(([, text]) => (text ?? "").replace(/#.*$/gm, "").replace(/\s+/g, ""));
}

describe("docs/protocol.md", () => {
  it("has blocks of both sides", () => {
    expect(blocks("client").length).toBeGreaterThan(5);
    expect(blocks("server").length).toBeGreaterThan(5);
  });

  /** A Send with a table of envelopes, which this client does not make. */
  const enveloped = (bytes: string): boolean => bytes.startsWith("02") && bytes.slice(66, 68) === "01";

  it.each(blocks("client").map((bytes, i) => [i, bytes] as const))("client block %i is one frame", (_i, bytes) => {
    if (enveloped(bytes)) {
      expect(() => decodeClientFrames(unhex(bytes))).toThrow(WireError);
      return;
    }
    const frames = decodeClientFrames(unhex(bytes));
    expect(frames).toHaveLength(1);
    expect(hex(encodeFrame(frames[0] as (typeof frames)[0]))).toBe(bytes);
  });

  it.each(blocks("server").map((bytes, i) => [i, bytes] as const))("server block %i is one frame", (_i, bytes) => {
    const frames = decodeServerFrames(unhex(bytes));
    expect(frames).toHaveLength(1);
    expect(hex(encodeFrame(frames[0] as (typeof frames)[0]))).toBe(bytes);
  });
});
