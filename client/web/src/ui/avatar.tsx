//! A coloured disc with initials, and a dot when the person is online.

import type { JSX } from "preact";
import { GroupIcon } from "./icons";

function hue(text: string): number {
  let sum = 7;
  for (const c of text) sum = (sum * 31 + (c.codePointAt(0) ?? 0)) % 3_600;
  return sum % 360;
}

function initials(name: string): string {
  const words = name.split(/[\s._-]+/).filter((w) => w !== "");
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0]];
  return letters.map((w) => [...(w ?? "")][0] ?? "").join("").toUpperCase();
}

interface Props {
  id: string;
  name: string;
  group?: boolean;
  online?: boolean;
  small?: boolean;
}

export function Avatar({ id, name, group, online, small }: Props): JSX.Element {
  return (
    <span class={small ? "avatar small" : "avatar"} style={{ "--hue": String(hue(id)) }} aria-hidden="true">
      {group ? <GroupIcon /> : initials(name)}
      {online && <span class="online-dot" />}
    </span>
  );
}
