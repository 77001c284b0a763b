//! What a person is told about the connection: a strip while it is not live, a panel when it will not be.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { signOut } from "../app/account";
import type { Model } from "../app/model";

/** Seconds until a time of the page's own clock, counted down. */
function useSecondsUntil(atMs: number | undefined): number {
  const left = (): number => (atMs === undefined ? 0 : Math.max(0, Math.ceil((atMs - performance.now()) / 1_000)));
  const [, again] = useState(0);
  useEffect(() => {
    if (atMs === undefined) return;
    const timer = setInterval(() => again((n) => n + 1), 500);
    return () => clearInterval(timer);
  }, [atMs]);
  return left();
}

export function Connection({ model }: { model: Model }): JSX.Element | null {
  const { phase } = model;
  const seconds = useSecondsUntil(phase.kind === "waiting" ? phase.retryAtMs : undefined);
  const kind = phase.kind;
  if (kind === "live" || kind === "refused" || kind === "displaced" || kind === "stopped") return null;
  const text =
    kind === "connecting"
      ? "Connecting…"
      : kind === "syncing"
        ? "Fetching your messages…"
        : kind === "catching-up"
          ? "Catching up…"
          : `No connection. Trying again${seconds > 0 ? ` in ${seconds} s` : "…"}`;
  return (
    <div class={`strip ${kind}`} role="status">
      <span class="pulse" aria-hidden="true" />
      <span>{text}</span>
      {kind === "waiting" && (
        <button type="button" onClick={() => model.nudge()}>
          Try now
        </button>
      )}
    </div>
  );
}

/** Nothing goes on without the person: refused, displaced, or the disk is lost. */
export function Halted({ model }: { model: Model }): JSX.Element | null {
  const { phase, diskLost } = model;
  if (diskLost) {
    return (
      <div class="halted" role="alertdialog" aria-labelledby="halted">
        <div class="card">
          <h2 id="halted">Messages cannot be kept</h2>
          <p>The browser does not store messages any more (is the disk full, or was the storage cleared?). Nothing was lost on the server.</p>
          <button class="primary" type="button" onClick={() => location.reload()}>
            Load the page again
          </button>
        </div>
      </div>
    );
  }
  if (phase.kind === "displaced") {
    return (
      <div class="halted" role="alertdialog" aria-labelledby="halted">
        <div class="card">
          <h2 id="halted">Open somewhere else</h2>
          <p>This device is connected from another place.</p>
          <button class="primary" type="button" onClick={() => model.takeBack()}>
            Use it here
          </button>
        </div>
      </div>
    );
  }
  if (phase.kind !== "refused") return null;
  return (
    <div class="halted" role="alertdialog" aria-labelledby="halted">
      <div class="card">
        <h2 id="halted">You are signed out</h2>
        <p>{phase.text !== "" ? phase.text : `The server ended the session (${phase.code}).`}</p>
        <button class="primary" type="button" onClick={() => signOut(model)}>
          Sign in again
        </button>
      </div>
    </div>
  );
}
