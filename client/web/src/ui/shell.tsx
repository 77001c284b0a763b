//! The signed-in page: the chats on the left, the open one on the right; on a phone one of the two.

import type { JSX } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import type { Model } from "../app/model";
import { chatOfHash, goTo } from "../app/place";
import { Connection, Halted } from "./connection";
import { Conversation } from "./conversation";
import { Mark } from "./mark";
import { NewChat } from "./new-chat";
import { Notices } from "./notices";
import { Sidebar } from "./sidebar";
import { useModel } from "./use-model";

export function Shell({ model }: { model: Model }): JSX.Element {
  useModel(model);
  const [asking, setAsking] = useState<"chat" | "group">();

  useEffect(() => {
    const follow = (): void => void model.open(chatOfHash());
    follow();
    window.addEventListener("hashchange", follow);
    return () => window.removeEventListener("hashchange", follow);
  }, [model]);

  const unread = model.unreadChats();
  useEffect(() => {
    document.title = `${unread > 0 ? `(${unread}) ` : ""}${model.me} · Hawser`;
  }, [unread, model]);

  useEffect(() => {
    const keys = (event: KeyboardEvent): void => {
      if ((event.ctrlKey || event.metaKey) && event.key === "k") {
        event.preventDefault();
        document.getElementById("search")?.focus();
      } else if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
        event.preventDefault();
        const ids = model.listed().map((entry) => entry.row.chat);
        const at = ids.indexOf(model.timeline?.chat ?? "") + (event.key === "ArrowDown" ? 1 : -1);
        goTo(ids[Math.max(0, Math.min(ids.length - 1, at))]);
      }
    };
    window.addEventListener("keydown", keys);
    return () => window.removeEventListener("keydown", keys);
  }, [model]);

  const close = useCallback(() => setAsking(undefined), []);
  const { timeline } = model;
  return (
    <div class={timeline ? "shell chat-open" : "shell"} data-phase={model.phase.kind} data-device={model.device}>
      <Sidebar model={model} onNew={setAsking} />
      <main class="pane">
        <Connection model={model} />
        {timeline ? (
          <Conversation key={timeline.chat} model={model} timeline={timeline} />
        ) : (
          <div class="nothing">
            <Mark />
            <p>Choose a chat, or start a new one.</p>
          </div>
        )}
      </main>
      {asking && <NewChat model={model} kind={asking} onClose={close} />}
      <Halted model={model} />
      <Notices model={model} />
    </div>
  );
}
