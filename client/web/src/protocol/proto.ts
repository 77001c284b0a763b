//! The subset of protobuf (proto3) that hawser.proto uses: varints, length-delimited fields,
//! optional and repeated. A message is described by a table; unknown fields are skipped.

/** Bytes that are no message of the table: the peer's fault. */
export class WireError extends Error {
  override name = "WireError";
}

type Scalar = "string" | "bytes" | "u32" | "u64" | "num" | "bool";
type Card = "one" | "optional" | "repeated";

export interface Field<T> {
  readonly tag: number;
  readonly kind: Scalar | "message";
  readonly card: Card;
  readonly of?: Schema<never>;
  /** Only for the type checker. */
  readonly phantom?: T;
}

export type Fields = Readonly<Record<string, Field<unknown>>>;
export interface Schema<F> {
  readonly fields: F;
  readonly byTag: ReadonlyMap<number, readonly [string, Field<unknown>]>;
}
/** The TypeScript shape of a schema. */
export type Infer<S> =
  S extends Schema<infer F> ? { [K in keyof F]: F[K] extends Field<infer T> ? T : never } : never;
/** The same with every field optional: what an encoder accepts. */
export type Init<S> = Partial<Infer<S>>;

function field<T>(tag: number, kind: Scalar): Field<T> {
  return { tag, kind, card: "one" };
}

export const str = (tag: number): Field<string> => field(tag, "string");
export const bytes = (tag: number): Field<Uint8Array> => field(tag, "bytes");
export const u32 = (tag: number): Field<number> => field(tag, "u32");
/** uint64 kept whole: seq and offsets. */
export const u64 = (tag: number): Field<bigint> => field(tag, "u64");
/** uint64 as a number: times in milliseconds and ordinals, below 2^53. */
export const num = (tag: number): Field<number> => field(tag, "num");
export const bool = (tag: number): Field<boolean> => field(tag, "bool");
export function optional<T>(f: Field<T>): Field<T | undefined> {
  return { ...f, card: "optional" } as Field<T | undefined>;
}
export function repeated<T>(f: Field<T>): Field<T[]> {
  return { ...f, card: "repeated" } as unknown as Field<T[]>;
}
export function message<F extends Fields>(
  tag: number,
  of: Schema<F>,
): Field<Infer<Schema<F>> | undefined> {
  return { tag, kind: "message", card: "optional", of: of as unknown as Schema<never> };
}
export function messages<F extends Fields>(tag: number, of: Schema<F>): Field<Infer<Schema<F>>[]> {
  return { tag, kind: "message", card: "repeated", of: of as unknown as Schema<never> };
}
export function schema<F extends Fields>(fields: F): Schema<F> {
  const byTag = new Map(Object.entries(fields).map(([name, f]) => [f.tag, [name, f] as const]));
  return { fields, byTag };
}

const utf8 = new TextEncoder();
const utf8Strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Strict UTF-8; bytes that are none are the peer's fault. */
export function decodeText(raw: Uint8Array): string {
  try {
    return utf8Strict.decode(raw);
  } catch {
    throw new WireError("text is not UTF-8");
  }
}

export function encodeText(text: string): Uint8Array {
  return utf8.encode(text);
}

function pushVarint(out: number[], value: bigint | number): void {
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest > 0x7fn) {
    out.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  out.push(Number(rest));
}

function isDefault(value: unknown): boolean {
  if (value instanceof Uint8Array) return value.length === 0;
  return value === 0 || value === 0n || value === "" || value === false;
}

function pushBytes(out: number[], raw: Uint8Array): void {
  pushVarint(out, raw.length);
  for (const byte of raw) out.push(byte);
}

function pushField(out: number[], f: Field<unknown>, value: unknown): void {
  const delimited = f.kind === "string" || f.kind === "bytes" || f.kind === "message";
  pushVarint(out, (f.tag << 3) | (delimited ? 2 : 0));
  if (f.kind === "string") pushBytes(out, encodeText(value as string));
  else if (f.kind === "bytes") pushBytes(out, value as Uint8Array);
  else if (f.kind === "message") pushBytes(out, encode(f.of as Schema<Fields>, value as object));
  else if (f.kind === "bool") pushVarint(out, value === true ? 1 : 0);
  else pushVarint(out, value as bigint | number);
}

/** Encodes; fields left out or at their default are not written, in the order of the table. */
export function encode<F extends Fields>(s: Schema<F>, value: Init<Schema<F>>): Uint8Array {
  const out: number[] = [];
  for (const [name, f] of Object.entries(s.fields)) {
    const given = (value as Record<string, unknown>)[name];
    if (given === undefined) continue;
    if (f.card === "repeated") {
      for (const item of given as unknown[]) pushField(out, f, item);
    } else if (f.card === "optional" || !isDefault(given)) {
      pushField(out, f, given);
    }
  }
  return Uint8Array.from(out);
}

class Reader {
  at = 0;
  constructor(private readonly raw: Uint8Array) {}

  get done(): boolean {
    return this.at >= this.raw.length;
  }

  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.raw[this.at];
      if (byte === undefined) throw new WireError("varint is cut off");
      this.at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new WireError("varint is longer than 10 bytes");
  }

  delimited(): Uint8Array {
    const length = this.varint();
    if (length > BigInt(this.raw.length - this.at)) throw new WireError("field is cut off");
    const start = this.at;
    this.at += Number(length);
    return this.raw.subarray(start, this.at);
  }

  skip(wireType: number): void {
    if (wireType === 0) this.varint();
    else if (wireType === 2) this.delimited();
    else if (wireType === 1 || wireType === 5) {
      this.at += wireType === 1 ? 8 : 4;
      if (this.at > this.raw.length) throw new WireError("field is cut off");
    } else throw new WireError(`wire type ${wireType} is not used`);
  }
}

function readValue(r: Reader, f: Field<unknown>): unknown {
  switch (f.kind) {
    case "string":
      return decodeText(r.delimited());
    case "bytes":
      return r.delimited().slice();
    case "message":
      return decode(f.of as Schema<Fields>, r.delimited());
    case "u64":
      return r.varint();
    case "bool":
      return r.varint() !== 0n;
    case "u32":
      return Number(BigInt.asUintN(32, r.varint()));
    case "num":
      return Math.min(Number(r.varint()), Number.MAX_SAFE_INTEGER);
  }
}

function defaultOf(f: Field<unknown>): unknown {
  if (f.card === "repeated") return [];
  if (f.card === "optional") return undefined;
  const defaults = { string: "", bytes: new Uint8Array(), u32: 0, u64: 0n, num: 0, bool: false };
  return f.kind === "message" ? undefined : defaults[f.kind];
}

/** Decodes; throws WireError on bytes that are no such message. */
export function decode<F extends Fields>(s: Schema<F>, raw: Uint8Array): Infer<Schema<F>> {
  const out: Record<string, unknown> = {};
  for (const [name, f] of Object.entries(s.fields)) out[name] = defaultOf(f);
  const r = new Reader(raw);
  while (!r.done) {
    const key = Number(r.varint() & 0xffff_ffffn);
    const wireType = key & 7;
    const known = s.byTag.get(key >>> 3);
    const expected = known && ["string", "bytes", "message"].includes(known[1].kind) ? 2 : 0;
    if (key >>> 3 === 0) throw new WireError("field number 0");
    if (known === undefined || wireType !== expected) {
      r.skip(wireType);
      continue;
    }
    const [name, f] = known;
    const value = readValue(r, f);
    if (f.card === "repeated") (out[name] as unknown[]).push(value);
    else out[name] = value;
  }
  return out as Infer<Schema<F>>;
}
