//! Draws a component again when the model has changed, and once a minute for its times.

import { useEffect, useReducer } from "preact/hooks";
import type { Model } from "../app/model";

const MINUTE_MS = 60_000;

export function useModel(model: Model): void {
  const [, again] = useReducer<number, undefined>((n) => n + 1, 0);
  useEffect(() => {
    const timer = setInterval(() => again(undefined), MINUTE_MS);
    const unsubscribe = model.subscribe(() => again(undefined));
    return () => {
      clearInterval(timer);
      unsubscribe();
    };
  }, [model]);
}
