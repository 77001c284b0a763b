//! Draws a component again when the model has changed: at most once per frame, however fast messages come. And once a
//! minute for its times.

import { useEffect, useReducer } from "preact/hooks";
import type { Model } from "../app/model";

const MINUTE_MS = 60_000;
/** A hidden page has no frames; it is drawn this much later, milliseconds. */
const HIDDEN_MS = 250;

export function useModel(model: Model): void {
  const [, again] = useReducer<number, undefined>((n) => n + 1, 0);
  useEffect(() => {
    let frame: number | undefined;
    let late: ReturnType<typeof setTimeout> | undefined;
    const draw = (): void => {
      if (frame !== undefined) cancelAnimationFrame(frame);
      clearTimeout(late);
      frame = undefined;
      again(undefined);
    };
    const plan = (): void => {
      if (frame !== undefined) return;
      frame = requestAnimationFrame(draw);
      late = setTimeout(draw, HIDDEN_MS);
    };
    const timer = setInterval(() => again(undefined), MINUTE_MS);
    const unsubscribe = model.subscribe(plan);
    return () => {
      clearInterval(timer);
      clearTimeout(late);
      if (frame !== undefined) cancelAnimationFrame(frame);
      unsubscribe();
    };
  }, [model]);
}
