//! The list of chats.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { signOut } from "../app/account";
import type { ChatEntry } from "../app/conversations";
import type { Model } from "../app/model";
import { goTo } from "../app/place";
import { others, statusOf } from "../app/status";
import type { Status } from "../app/status";
import { bodyText, chatTitle, nameOf, previewText, shortTimeText, typingText } from "../app/words";
import { dmPeer, isGroup } from "../protocol/ids";
import { UNREAD_COUNT_MAX } from "../store/store";
import { Avatar } from "./avatar";
import { ComposeIcon, GroupIcon, LeaveIcon, SearchIcon, WindowIcon } from "./icons";
import { Ticks } from "./ticks";

interface Line {
  text: string;
  status: Status | undefined;
  atMs: number;
}

/** The newest of a chat: a message of ours that waits, else the newest stored one. */
function lineOf(model: Model, { row, newest }: ChatEntry): Line {
  const waiting = model.outgoing.get(row.chat)?.at(-1);
  if (waiting) {
    const { send, kept, accepted } = waiting;
    const status = !kept ? undefined : send.failed ? "failed" : accepted ? "accepted" : "waiting";
    return { text: bodyText(send) ?? "", status, atMs: send.sendTsMs };
  }
  if (!newest) return { text: isGroup(row.chat) ? "New group" : "", status: undefined, atMs: 0 };
  const own = newest.sender === model.me && newest.messageType === 1;
  const status = own ? statusOf(newest, others(row, model.me), model.marksOf(newest.chat)) : undefined;
  return { text: previewText(newest, model.me, model.names), status, atMs: newest.storedTsMs };
}

function Row({ model, entry }: { model: Model; entry: ChatEntry }): JSX.Element {
  const { row, unread } = entry;
  const { me, names } = model;
  const title = chatTitle(row, me, names);
  const peer = dmPeer(row.chat, me);
  const typing = typingText(model.typingIn(row.chat), isGroup(row.chat), names);
  const line = lineOf(model, entry);
  const open = model.timeline?.chat === row.chat;
  return (
    <li>
      <a class="chat-row" href={`#/${row.chat}`} aria-current={open ? "page" : undefined} data-chat={row.chat}>
        <Avatar id={peer ?? row.chat} name={title} group={isGroup(row.chat)} online={peer !== undefined && peer !== me && model.presence.get(peer)?.online === true} />
        <span class="chat-title">{title}</span>
        <time class="chat-time">{line.atMs > 0 ? shortTimeText(line.atMs, Date.now()) : ""}</time>
        <span class={typing !== "" ? "chat-line typing" : "chat-line"}>
          {typing === "" && line.status && <Ticks status={line.status} />}
          <span>{typing !== "" ? typing : line.text}</span>
        </span>
        {unread > 0 && (
          <span class="badge" aria-label={`${unread} unread`}>
            {unread >= UNREAD_COUNT_MAX ? "99+" : unread}
          </span>
        )}
      </a>
    </li>
  );
}

export function Sidebar({ model, onNew }: { model: Model; onNew: (kind: "chat" | "group") => void }): JSX.Element {
  const [wanted, setWanted] = useState("");
  const { me, names } = model;
  const all = model.listed();
  const needle = wanted.trim().toLowerCase();
  const shown = all.filter((e) => needle === "" || chatTitle(e.row, me, names).toLowerCase().includes(needle));
  return (
    <nav class="sidebar" aria-label="Chats">
      <header>
        <Avatar id={me} name={nameOf(me, names)} online={model.phase.kind === "live"} />
        <div class="me">
          <strong>{nameOf(me, names)}</strong>
          <span class="quiet">{model.phase.kind === "live" ? "online" : "offline"}</span>
        </div>
        <button type="button" class="tool" onClick={() => onNew("chat")} aria-label="New chat" title="New chat">
          <ComposeIcon />
        </button>
        <button type="button" class="tool" onClick={() => onNew("group")} aria-label="New group" title="New group">
          <GroupIcon />
        </button>
      </header>
      <div class="search">
        <SearchIcon />
        <input
          id="search"
          type="search"
          placeholder="Search chats"
          aria-label="Search chats"
          value={wanted}
          onInput={(event) => setWanted(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && shown[0]) goTo(shown[0].row.chat);
            if (event.key === "Escape") setWanted("");
          }}
        />
      </div>
      <ul class="chats">
        {shown.map((entry) => (
          <Row key={entry.row.chat} model={model} entry={entry} />
        ))}
        {shown.length === 0 && (
          <li class="empty">
            {all.length === 0 ? (
              <button type="button" class="primary" onClick={() => onNew("chat")}>
                Start your first chat
              </button>
            ) : (
              "No chat of that name"
            )}
          </li>
        )}
      </ul>
      <footer>
        <a class="tool wide" href="/" target="_blank" rel="noopener" title="Open another window as somebody else">
          <WindowIcon /> Another person
        </a>
        <button type="button" class="tool wide" onClick={() => signOut(model)}>
          <LeaveIcon /> Sign out
        </button>
      </footer>
    </nav>
  );
}
