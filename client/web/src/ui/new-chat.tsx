//! Starting a chat with one person, or a group.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Model } from "../app/model";
import { goTo } from "../app/place";
import { dmChat } from "../protocol/ids";
import { Dialog } from "./dialog";
import { People } from "./people";

export const GROUP_NAME_MAX = 100;

export function NewChat({ model, kind, onClose }: { model: Model; kind: "chat" | "group"; onClose: () => void }): JSX.Element {
  useEffect(() => void model.loadPeople(), [model]);
  if (kind === "group") return <NewGroup model={model} onClose={onClose} />;
  const take = (user: string): void => {
    onClose();
    goTo(dmChat(model.me, user));
  };
  return (
    <Dialog title="New chat" onClose={onClose}>
      <People model={model} without={[]} onChoose={take} />
    </Dialog>
  );
}

function NewGroup({ model, onClose }: { model: Model; onClose: () => void }): JSX.Element {
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState<string[]>([]);
  const [busy, setBusy] = useState(false);
  const choose = (user: string): void => {
    setChosen(chosen.includes(user) ? chosen.filter((u) => u !== user) : [...chosen, user]);
  };
  const create = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    const chat = await model.group((groups) => groups.create(name.trim(), chosen));
    setBusy(false);
    if (chat === undefined) return;
    onClose();
    goTo(chat);
  };
  return (
    <Dialog title="New group" onClose={onClose}>
      <form class="stack" onSubmit={(event) => void create(event)}>
        <label for="group-name">Name of the group</label>
        <input id="group-name" value={name} maxLength={GROUP_NAME_MAX} onInput={(event) => setName(event.currentTarget.value)} autocomplete="off" />
        <People model={model} without={[model.me]} chosen={chosen} onChoose={choose} />
        <button type="submit" class="primary" disabled={busy || name.trim() === "" || chosen.length === 0}>
          {busy ? "Creating…" : chosen.length === 0 ? "Choose members" : `Create group of ${chosen.length + 1}`}
        </button>
      </form>
    </Dialog>
  );
}
