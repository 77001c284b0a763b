//! The open chat: who it is with, its messages, and where to write.

import type { JSX } from "preact";
import { useCallback, useState } from "preact/hooks";
import type { Model } from "../app/model";
import type { Timeline } from "../app/timeline";
import { chatTitle, list, nameOf, presenceText, typingText } from "../app/words";
import { dmPeer, isGroup } from "../protocol/ids";
import { Avatar } from "./avatar";
import { Composer } from "./composer";
import { GroupPanel } from "./group-panel";
import { BackIcon, InfoIcon } from "./icons";
import { Messages } from "./messages";

/** Typing, else presence, else the members. */
function subtitle(model: Model, chat: string): { text: string; typing: boolean } {
  const typing = typingText(model.typingIn(chat), isGroup(chat), model.names);
  if (typing !== "") return { text: typing, typing: true };
  const row = model.chatRow(chat);
  if (isGroup(chat)) {
    if (row.gone) return { text: "You are no longer a member", typing: false };
    const names = row.members.slice(0, 6).map((m) => (m.user === model.me ? "you" : nameOf(m.user, model.names)));
    const more = row.memberCount - names.length;
    return { text: list(more > 0 ? [...names, `${more} more`] : names), typing: false };
  }
  const peer = dmPeer(chat, model.me);
  if (peer === undefined || peer === model.me) return { text: "", typing: false };
  return { text: presenceText(model.presence.get(peer), Date.now()), typing: false };
}

export function Conversation({ model, timeline }: { model: Model; timeline: Timeline }): JSX.Element {
  const { chat } = timeline;
  const [showsGroup, setShowsGroup] = useState(false);
  const closeGroup = useCallback(() => setShowsGroup(false), []);
  const row = model.chatRow(chat);
  const title = chatTitle(row, model.me, model.names);
  const peer = dmPeer(chat, model.me);
  const group = isGroup(chat);
  const under = subtitle(model, chat);
  const head = (
    <>
      <Avatar id={peer ?? chat} name={title} group={group} online={peer !== undefined && peer !== model.me && model.presence.get(peer)?.online === true} />
      <span class="head-text">
        <strong class="head-title">{title}</strong>
        <span class={under.typing ? "head-under typing" : "head-under"} data-under aria-live="polite">
          {under.text}
        </span>
      </span>
    </>
  );
  return (
    <section class="conversation" aria-label={`Chat: ${title}`}>
      <header class="head">
        <a class="tool back" href="#/" aria-label="Back to all chats">
          <BackIcon />
        </a>
        {group ? (
          <button type="button" class="head-main" onClick={() => setShowsGroup(true)} aria-label={`${title}: members and settings`}>
            {head}
          </button>
        ) : (
          <div class="head-main">{head}</div>
        )}
        {group && (
          <button type="button" class="tool" onClick={() => setShowsGroup(true)} aria-label="Group settings" title="Group settings">
            <InfoIcon />
          </button>
        )}
      </header>
      <Messages model={model} timeline={timeline} />
      {model.mayWrite(chat) ? (
        <Composer model={model} chat={chat} />
      ) : (
        <p class="composer closed">You can read this group’s history, but no longer write to it.</p>
      )}
      {showsGroup && <GroupPanel model={model} chat={chat} onClose={closeGroup} />}
    </section>
  );
}
