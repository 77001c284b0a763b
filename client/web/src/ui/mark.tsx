//! The product's mark.

import type { JSX } from "preact";
import icon from "./icon.svg";

export function Mark(): JSX.Element {
  return <img class="mark" src={icon} alt="" width="56" height="56" />;
}
