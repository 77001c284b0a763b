//! A group's members and name; what may be changed depends on being an admin.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Model } from "../app/model";
import { chatTitle, nameOf, presenceText } from "../app/words";
import { Avatar } from "./avatar";
import { Dialog } from "./dialog";
import { GROUP_NAME_MAX } from "./new-chat";
import { People } from "./people";

interface Props {
  model: Model;
  chat: string;
  onClose: () => void;
}

export function GroupPanel({ model, chat, onClose }: Props): JSX.Element {
  const row = model.chatRow(chat);
  const title = chatTitle(row, model.me, model.names);
  const [name, setName] = useState(row.name);
  const [adding, setAdding] = useState(false);
  const [chosen, setChosen] = useState<string[]>([]);
  const [busy, setBusy] = useState(false);
  const admin = !row.gone && row.members.some((m) => m.user === model.me && m.admin);
  useEffect(() => void model.loadPeople(), [model]);

  const change = async (run: Parameters<Model["group"]>[0]): Promise<void> => {
    setBusy(true);
    await model.group(run);
    setBusy(false);
  };
  const rename = async (event: Event): Promise<void> => {
    event.preventDefault();
    await change((groups) => groups.rename(chat, name.trim()));
  };
  const add = async (): Promise<void> => {
    await change((groups) => groups.add(chat, chosen));
    setChosen([]);
    setAdding(false);
  };
  const leave = async (): Promise<void> => {
    const admins = row.members.filter((m) => m.admin);
    if (row.memberCount > 1 && admins.every((m) => m.user === model.me)) {
      model.notice("You are the only admin: make somebody else admin first.");
      return;
    }
    await change((groups) => groups.leave(chat));
    onClose();
  };

  return (
    <Dialog title={title} onClose={onClose}>
      {admin && (
        <form class="row rename" onSubmit={(event) => void rename(event)}>
          <input aria-label="Name of the group" value={name} maxLength={GROUP_NAME_MAX} onInput={(event) => setName(event.currentTarget.value)} />
          <button type="submit" disabled={busy || name.trim() === "" || name.trim() === row.name}>
            Rename
          </button>
        </form>
      )}
      {adding ? (
        <div class="stack">
          <People
            model={model}
            without={row.members.map((m) => m.user)}
            chosen={chosen}
            onChoose={(user) => setChosen(chosen.includes(user) ? chosen.filter((u) => u !== user) : [...chosen, user])}
          />
          <div class="row">
            <button type="button" onClick={() => setAdding(false)}>
              Back
            </button>
            <button type="button" class="primary" disabled={busy || chosen.length === 0} onClick={() => void add()}>
              Add {chosen.length > 0 ? chosen.length : ""}
            </button>
          </div>
        </div>
      ) : (
        <>
          <ul class="members" aria-label="Members">
            {row.members.map((member) => (
              <li key={member.user} data-member={member.user}>
                <Avatar id={member.user} name={nameOf(member.user, model.names)} online={model.presence.get(member.user)?.online === true} small />
                <span class="member-name">
                  {member.user === model.me ? "You" : nameOf(member.user, model.names)}
                  <span class="quiet">{member.admin ? "admin" : member.user === model.me ? "" : presenceText(model.presence.get(member.user), Date.now())}</span>
                </span>
                {admin && member.user !== model.me && (
                  <>
                    <button type="button" disabled={busy} onClick={() => void change((groups) => groups.setAdmin(chat, member.user, !member.admin))}>
                      {member.admin ? "Not admin" : "Make admin"}
                    </button>
                    <button type="button" class="danger" disabled={busy} onClick={() => void change((groups) => groups.remove(chat, member.user))}>
                      Remove
                    </button>
                  </>
                )}
              </li>
            ))}
          </ul>
          {!row.gone && (
            <div class="row">
              {admin && (
                <button type="button" onClick={() => setAdding(true)}>
                  Add people
                </button>
              )}
              <button type="button" class="danger" disabled={busy} onClick={() => void leave()}>
                Leave group
              </button>
            </div>
          )}
        </>
      )}
    </Dialog>
  );
}
