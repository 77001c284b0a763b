//! Changes of the world as lines of a file.

import { hex, unhex } from "../../src/protocol/ids";
import type { Op } from "./world";

/** JSON with bigint and bytes, for the journal. */
export function journalLine(op: Op): string {
  return JSON.stringify(op, (_key, value: unknown) => {
    if (typeof value === "bigint") return { $n: value.toString() };
    if (value instanceof Uint8Array) return { $b: hex(value) };
    return value;
  });
}

export function journalOp(line: string): Op {
  return JSON.parse(line, (_key, value: unknown) => {
    const tagged = value as { $n?: string; $b?: string } | null;
    if (tagged?.$n !== undefined) return BigInt(tagged.$n);
    if (tagged?.$b !== undefined) return unhex(tagged.$b);
    return value;
  }) as Op;
}
