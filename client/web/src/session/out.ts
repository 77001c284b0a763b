//! Where effects are gathered, and the phase that was last told.

import { encodeFrame } from "../protocol/frames";
import type { ClientFrame } from "../protocol/frames";
import type { Link } from "./links";
import type { Effect, Phase } from "./types";

export class Out {
  phase: Phase = { kind: "stopped" };
  private effects: Effect[] = [];

  push(...effects: Effect[]): void {
    this.effects.push(...effects);
  }

  take(): Effect[] {
    const taken = this.effects;
    this.effects = [];
    return taken;
  }

  transmit(frame: ClientFrame, link: Link | undefined): void {
    if (link) this.push({ do: "transmit", link: link.id, bytes: encodeFrame(frame) });
  }

  setPhase(phase: Phase): void {
    if (JSON.stringify(phase) === JSON.stringify(this.phase)) return;
    this.phase = phase;
    this.push({ do: "phase", phase });
  }
}
