//! The ticks under a message of ours: a clock, one tick, two ticks, two coloured ticks.

import type { JSX } from "preact";
import { STATUS_TEXT } from "../app/status";
import type { Status } from "../app/status";

const CLOCK = "M8 14.500a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13zM8 4.500V8l2.500 1.500";
const TICK = "M2 8.500l3.500 3.500L13 4.500";
const SECOND = "M9.500 11.500l.5.500L17.500 4.500";
const FAILED = "M8 14.500a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13zM8 4.500v4M8 11.200v.100";

function path(status: Status): string {
  switch (status) {
    case "waiting":
    case "accepted":
      return CLOCK;
    case "failed":
      return FAILED;
    case "sent":
      return TICK;
    case "delivered":
    case "read":
      return `${TICK}${SECOND}`;
  }
}

export function Ticks({ status }: { status: Status }): JSX.Element {
  const wide = status === "delivered" || status === "read";
  return (
    <svg class={`ticks ${status}`} data-status={status} role="img" aria-label={STATUS_TEXT[status]} viewBox={wide ? "0 0 19 16" : "0 0 16 16"}>
      <title>{STATUS_TEXT[status]}</title>
      <path d={path(status)} />
    </svg>
  );
}
