//! Where a person writes. Enter sends, Shift+Enter begins a new line; a draft is kept per chat and tab.

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Model } from "../app/model";
import { SendIcon } from "./icons";

/** Writing that pauses this long has stopped, milliseconds. */
const PAUSE_MS = 4_000;

export function Composer({ model, chat }: { model: Model; chat: string }): JSX.Element {
  const key = `hawser-draft-${model.me}-${chat}`;
  const [text, setText] = useState(() => sessionStorage.getItem(key) ?? "");
  const area = useRef<HTMLTextAreaElement>(null);
  const pause = useRef<ReturnType<typeof setTimeout>>(undefined);

  useEffect(() => {
    if (matchMedia("(hover: hover)").matches) area.current?.focus();
    return () => {
      clearTimeout(pause.current);
      model.typing(chat, false);
    };
  }, [model, chat]);

  useLayoutEffect(() => {
    const e = area.current;
    if (!e) return;
    e.style.height = "auto";
    e.style.height = `${Math.min(e.scrollHeight, 200)}px`;
  }, [text]);

  const change = (next: string): void => {
    setText(next);
    if (next === "") sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, next);
  };

  const write = (next: string): void => {
    change(next);
    clearTimeout(pause.current);
    model.typing(chat, next.trim() !== "");
    if (next.trim() !== "") pause.current = setTimeout(() => model.typing(chat, false), PAUSE_MS);
  };

  const send = (): void => {
    clearTimeout(pause.current);
    if (model.say(chat, text.trim())) change("");
    area.current?.focus();
  };

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={area}
        id="composer"
        rows={1}
        value={text}
        placeholder="Message"
        aria-label="Message"
        enterkeyhint="send"
        onInput={(event) => write(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            send();
          }
        }}
      />
      <button type="submit" class="send" disabled={text.trim() === ""} aria-label="Send" title="Send (Enter)">
        <SendIcon />
      </button>
    </form>
  );
}
