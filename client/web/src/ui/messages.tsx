//! The messages of the open chat, oldest first, kept at the end while one is there.

import type { JSX, RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Model } from "../app/model";
import { isShown } from "../app/conversations";
import { others, othersAt } from "../app/status";
import type { Timeline } from "../app/timeline";
import { dayText, membershipText, nameOf, sameDay } from "../app/words";
import { isGroup } from "../protocol/ids";
import { MESSAGE_MEMBERSHIP } from "../protocol/layout";
import type { MessageRow } from "../store/rows";
import { Bubble, OutgoingBubble } from "./bubble";
import { DownIcon } from "./icons";

/** This near the end counts as being there, pixels. */
const END_PX = 60;
/** Older messages are fetched when this near the top, pixels. */
const TOP_PX = 400;
/** Messages of one person this close together are one block, milliseconds. */
const BLOCK_MS = 5 * 60_000;

/** Keeps the place: at the end, or where the reader is when older messages come above. */
function useScroll(model: Model, timeline: Timeline, count: number): {
  box: RefObject<HTMLDivElement | null>;
  atEnd: boolean;
  onScroll: () => void;
  toEnd: () => void;
} {
  const box = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const place = useRef({ end: true, height: 0, first: "" });
  const first = placeOf(timeline.rows[0]);

  useLayoutEffect(() => {
    const e = box.current;
    if (!e) return;
    const was = place.current;
    if (was.end) e.scrollTop = e.scrollHeight;
    else if (first !== was.first) e.scrollTop += e.scrollHeight - was.height;
    place.current = { end: was.end, height: e.scrollHeight, first };
  }, [first, count]);

  const onScroll = (): void => {
    const e = box.current;
    if (!e) return;
    const end = e.scrollHeight - e.scrollTop - e.clientHeight < END_PX;
    place.current.end = end;
    timeline.follows = end;
    if (end !== atEnd) setAtEnd(end);
    if (e.scrollTop < TOP_PX) void model.older();
  };

  useEffect(() => {
    const e = box.current;
    if (e && timeline.ready && e.scrollHeight <= e.clientHeight + TOP_PX) void model.older();
  }, [model, timeline, timeline.ready, count]);

  useEffect(() => {
    const e = box.current;
    if (!e) return;
    const observer = new ResizeObserver(() => {
      if (place.current.end) e.scrollTop = e.scrollHeight;
    });
    observer.observe(e);
    return () => observer.disconnect();
  }, []);

  const toEnd = (): void => {
    place.current.end = true;
    timeline.follows = true;
    setAtEnd(true);
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  };
  return { box, atEnd, onScroll, toEnd };
}

/** What was seen at the end of a visible page has been read. */
function useReading(model: Model, atEnd: boolean, newest: string | undefined): void {
  useEffect(() => {
    const read = (): void => {
      if (atEnd && document.visibilityState === "visible") void model.readAll();
    };
    read();
    document.addEventListener("visibilitychange", read);
    return () => document.removeEventListener("visibilitychange", read);
  }, [model, atEnd, newest]);
}

/** Keys alone are unique within a lane only. */
function placeOf(row: MessageRow | undefined): string {
  return row ? `${row.chat} ${row.key}` : "";
}

function startsBlock(row: MessageRow, before: MessageRow | undefined): boolean {
  if (!before || before.messageType === MESSAGE_MEMBERSHIP || before.sender !== row.sender) return true;
  return row.storedTsMs - before.storedTsMs > BLOCK_MS || !sameDay(row.storedTsMs, before.storedTsMs);
}

export function Messages({ model, timeline }: { model: Model; timeline: Timeline }): JSX.Element {
  const { chat, rows } = timeline;
  const { me, names } = model;
  const outgoing = model.waiting();
  const { box, atEnd, onScroll, toEnd } = useScroll(model, timeline, rows.length + outgoing.length);
  useReading(model, atEnd, timeline.newest().map(placeOf).join(", "));
  const lastOut = outgoing.at(-1)?.id;
  useEffect(() => {
    if (lastOut !== undefined) toEnd();
  }, [lastOut]);

  const chatRow = model.chatRow(chat);
  const recipients = othersAt(rows, others(chatRow, me));
  const group = isGroup(chat);
  const unread = (r: MessageRow): boolean => r.seq > (model.unreadAfter.get(r.chat) ?? r.seq) && r.sender !== me && isShown(r);
  const firstUnread = rows.find(unread);
  const items: JSX.Element[] = [];
  let before: MessageRow | undefined;
  for (const [at, row] of rows.entries()) {
    if (!isShown(row)) continue;
    if (!before || !sameDay(before.storedTsMs, row.storedTsMs)) {
      items.push(
        <li key={`day ${placeOf(row)}`} class="day">
          <span>{dayText(row.storedTsMs, Date.now())}</span>
        </li>,
      );
    }
    if (row === firstUnread) {
      items.push(
        <li key="unread" class="unread-line">
          <span>New messages</span>
        </li>,
      );
    }
    if (row.messageType === MESSAGE_MEMBERSHIP) {
      items.push(
        <li key={placeOf(row)} class="event">
          <span>{membershipText(row, me, names)}</span>
        </li>,
      );
    } else {
      const own = row.sender === me;
      const author = group && !own && startsBlock(row, before) ? nameOf(row.sender, names) : undefined;
      const shared = { row, author, starts: startsBlock(row, before), names };
      items.push(
        own ? (
          <Bubble key={`${row.sender} ${row.clientMsgId}`} {...shared} own recipients={recipients[at] ?? NOBODY} marks={model.marksOf(row.chat)} group={group} />
        ) : (
          <Bubble key={`${row.sender} ${row.clientMsgId}`} {...shared} own={false} recipients={NOBODY} marks={NO_MARKS} group={group} />
        ),
      );
    }
    before = row;
  }
  for (const entry of outgoing) {
    const starts = entry === outgoing[0] && (before?.sender !== me || before.messageType === MESSAGE_MEMBERSHIP);
    items.push(<OutgoingBubble key={`${me} ${entry.id}`} entry={entry} starts={starts} onAgain={() => model.again(entry)} onDiscard={() => model.discard(entry)} />);
  }

  return (
    <div class="messages-frame">
      <div class="messages" ref={box} onScroll={onScroll} tabIndex={0} role="log" aria-label="Messages" aria-busy={timeline.loading}>
        {timeline.loading && <p class="loading">Fetching older messages…</p>}
        <div class={items.length === 0 ? "thread none" : "thread"}>
          {timeline.ready && timeline.atStart && <p class="beginning">{items.length === 0 ? "Say hello." : "This is where it begins."}</p>}
          <ol>{items}</ol>
        </div>
      </div>
      {!atEnd && (
        <button type="button" class="to-end" onClick={toEnd} aria-label="To the newest message" title="To the newest message">
          <DownIcon />
        </button>
      )}
    </div>
  );
}

const NOBODY: string[] = [];
const NO_MARKS = new Map<string, never>();
