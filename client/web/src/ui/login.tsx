//! Who are you? One of the demo's people, or a new name.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ApiError, demoUsers } from "../api/api";
import type { Person } from "../api/api";
import { isUserId } from "../protocol/ids";
import { Avatar } from "./avatar";
import { Mark } from "./mark";

const RETRY_MS = 2_000;

/** The demo's people; asked for again until the server answers. */
function usePeople(): { people: Person[] | undefined; trouble: string } {
  const [people, setPeople] = useState<Person[]>();
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let current = true;
    const load = async (): Promise<void> => {
      try {
        const found = await demoUsers();
        if (!current) return;
        setPeople(found);
        setTrouble("");
      } catch (error) {
        if (!current) return;
        const passes = !(error instanceof ApiError) || error.mayPass;
        setTrouble(passes ? "The server cannot be reached. Trying again…" : "This server runs without the demo.");
        if (passes) timer = setTimeout(() => void load(), RETRY_MS);
      }
    };
    void load();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, []);
  return { people, trouble };
}

export function Login({ problem, onUser }: { problem: string; onUser: (user: string) => void }): JSX.Element {
  const { people, trouble } = usePeople();
  const [name, setName] = useState("");
  const wrong = name !== "" && !isUserId(name);
  const submit = (event: Event): void => {
    event.preventDefault();
    if (isUserId(name)) onUser(name);
  };
  return (
    <main class="login">
      <div class="card">
        <Mark />
        <h1>Hawser</h1>
        <p class="quiet">Pick somebody to be. Open a second window as somebody else, and talk.</p>
        {problem !== "" && <p class="trouble" role="alert">{problem}</p>}
        {trouble !== "" && <p class="trouble" role="status">{trouble}</p>}
        <ul class="people" aria-label="Demo users" aria-busy={people === undefined}>
          {(people ?? []).slice(0, 8).map(({ user, name: shown, status }) => (
            <li key={user}>
              <button type="button" onClick={() => onUser(user)} data-user={user}>
                <Avatar id={user} name={shown || user} />
                <span>
                  {shown || user}
                  <span class="quiet">{status}</span>
                </span>
              </button>
            </li>
          ))}
        </ul>
        <form onSubmit={submit}>
          <label for="name">Or type a name</label>
          <div class="row">
            <input
              id="name"
              value={name}
              onInput={(event) => setName(event.currentTarget.value.trim().toLowerCase())}
              autocomplete="username"
              autocapitalize="none"
              spellcheck={false}
              maxLength={64}
              aria-invalid={wrong}
              aria-describedby="name-rule"
            />
            <button class="primary" type="submit" disabled={!isUserId(name)}>
              Go
            </button>
          </div>
          <p id="name-rule" class={wrong ? "hint wrong" : "hint"}>
            Letters, digits and . _ @ + - only
          </p>
        </form>
      </div>
    </main>
  );
}
