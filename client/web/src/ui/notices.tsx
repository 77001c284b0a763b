//! Short messages to the person. A popover, so that they are seen above an open dialog too.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Model } from "../app/model";

export function Notices({ model }: { model: Model }): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const last = model.notices.at(-1)?.no;
  useEffect(() => {
    const e = box.current;
    if (!e) return;
    if (e.matches(":popover-open")) e.hidePopover();
    if (last !== undefined) e.showPopover(); // what is shown last is on top
  }, [last]);
  return (
    <div class="notices" ref={box} popover="manual" role="status" aria-live="polite">
      {model.notices.map(({ no, text }) => (
        <button key={no} type="button" class="notice" onClick={() => model.dismiss(no)} title="Dismiss">
          {text}
        </button>
      ))}
    </div>
  );
}
