//! Choosing people: a search box and a list to tick, or to take one from.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Model } from "../app/model";
import { nameOf, presenceText } from "../app/words";
import { isUserId } from "../protocol/ids";
import { Avatar } from "./avatar";

interface Props {
  model: Model;
  /** Not to be chosen. */
  without: string[];
  /** Ticked ones; undefined: one click takes one. */
  chosen?: string[];
  onChoose: (user: string) => void;
}

export function People({ model, without, chosen, onChoose }: Props): JSX.Element {
  const [wanted, setWanted] = useState("");
  const needle = wanted.trim().toLowerCase();
  const known = [...new Set([...model.names.keys(), ...(chosen ?? [])])].filter((user) => !without.includes(user));
  const found = known
    .filter((user) => `${user} ${nameOf(user, model.names)}`.toLowerCase().includes(needle))
    .sort((a, b) => nameOf(a, model.names).localeCompare(nameOf(b, model.names)))
    .slice(0, 50);
  const typed = needle !== "" && isUserId(needle) && !known.includes(needle) && !without.includes(needle) ? needle : undefined;
  const shown = typed === undefined ? found : [...found, typed];
  return (
    <div class="choose">
      <input
        type="search"
        placeholder="Search people"
        aria-label="Search people"
        value={wanted}
        onInput={(event) => setWanted(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || !shown[0]) return;
          event.preventDefault();
          onChoose(shown[0]);
          setWanted("");
        }}
      />
      <ul>
        {shown.map((user) => (
          <li key={user}>
            <button type="button" data-user={user} aria-pressed={chosen ? chosen.includes(user) : undefined} onClick={() => onChoose(user)}>
              <Avatar id={user} name={nameOf(user, model.names)} online={model.presence.get(user)?.online === true} small />
              <span>
                {user === model.me ? "Notes to myself" : nameOf(user, model.names)}
                <span class="quiet">{user === model.me ? "" : model.sayings.get(user) || presenceText(model.presence.get(user), Date.now())}</span>
              </span>
              {chosen && <span class="tick" aria-hidden="true">{chosen.includes(user) ? "✓" : ""}</span>}
            </button>
          </li>
        ))}
        {shown.length === 0 && <li class="empty">Nobody of that name</li>}
      </ul>
    </div>
  );
}
