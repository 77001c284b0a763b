//! One message. A stored one is drawn again only when something of it has changed.

import { Component } from "preact";
import type { JSX } from "preact";
import type { Outgoing } from "../app/model";
import { STATUS_TEXT, statusByRecipient, statusOf } from "../app/status";
import type { Status } from "../app/status";
import { bodyText, fullTimeText, nameOf, timeText } from "../app/words";
import type { Names } from "../app/words";
import { errorText } from "../protocol/codes";
import type { MarkRow, MessageRow } from "../store/rows";
import { Ticks } from "./ticks";

const LINK = /(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]])/g;
const ONLY_EMOJI = /^(?:\p{Extended_Pictographic}(?:\uFE0F|\u200D\p{Extended_Pictographic}|\p{Emoji_Modifier})*\s*){1,3}$/u;

/** A text with its web addresses as links. */
export function Text({ text }: { text: string }): JSX.Element {
  const parts = text.split(LINK);
  return (
    <span class={ONLY_EMOJI.test(text) ? "text emoji" : "text"} dir="auto">
      {parts.map((part, i) =>
        i % 2 === 1 ? (
          <a key={i} href={part} target="_blank" rel="noopener noreferrer nofollow">
            {part}
          </a>
        ) : (
          part
        ),
      )}
    </span>
  );
}

interface Props {
  row: MessageRow;
  own: boolean;
  /** The sender's name, where it is to be shown. */
  author: string | undefined;
  starts: boolean;
  group: boolean;
  recipients: string[];
  marks: ReadonlyMap<string, MarkRow>;
  names: Names;
}

interface State {
  open: boolean;
}

export class Bubble extends Component<Props, State> {
  override state: State = { open: false };

  override shouldComponentUpdate(next: Props, state: State): boolean {
    const now = this.props;
    if (state.open || state.open !== this.state.open) return true;
    return (
      next.row !== now.row ||
      next.author !== now.author ||
      next.starts !== now.starts ||
      (next.own && statusOf(next.row, next.recipients, next.marks) !== this.drawn)
    );
  }
  private drawn: Status | undefined;

  override render({ row, own, author, starts, group, recipients, marks, names }: Props, { open }: State): JSX.Element {
    const status = own ? statusOf(row, recipients, marks) : undefined;
    this.drawn = status;
    const text = bodyText(row);
    const details = own && group;
    const meta = (
      <>
        <time dateTime={new Date(row.storedTsMs).toISOString()} title={fullTimeText(row.storedTsMs)}>
          {timeText(row.storedTsMs)}
        </time>
        {status && <Ticks status={status} />}
      </>
    );
    return (
      <li class={`message ${own ? "own" : "theirs"}${starts ? " starts" : ""}`} data-ordinal={row.ordinal}>
        <div class="bubble">
          {author !== undefined && <span class="author">{author}</span>}
          {text !== undefined ? <Text text={text} /> : <em class="text">A message that this page cannot show</em>}
          {details ? (
            <button type="button" class="meta" aria-expanded={open} aria-label="Who has it" onClick={() => this.setState({ open: !open })}>
              {meta}
            </button>
          ) : (
            <span class="meta">{meta}</span>
          )}
          {open && (
            <ul class="who">
              {[...statusByRecipient(row, recipients, marks)].map(([user, s]) => (
                <li key={user}>
                  {nameOf(user, names)} <span class="quiet">{STATUS_TEXT[s].toLowerCase()}</span> <Ticks status={s} />
                </li>
              ))}
            </ul>
          )}
        </div>
      </li>
    );
  }
}

interface OutgoingProps {
  entry: Outgoing;
  starts: boolean;
  onAgain: () => void;
  onDiscard: () => void;
}

/** A message that the server has not stored yet, or has refused. */
export function OutgoingBubble({ entry, starts, onAgain, onDiscard }: OutgoingProps): JSX.Element {
  const { send, kept, accepted } = entry;
  const status = send.failed ? "failed" : accepted ? "accepted" : "waiting";
  return (
    <li class={`message own ${status}${starts ? " starts" : ""}`}>
      <div class="bubble">
        <Text text={bodyText(send) ?? ""} />
        <span class="meta">
          <time>{timeText(send.sendTsMs)}</time>
          {kept && <Ticks status={status} />}
        </span>
        {send.failed && (
          <div class="refusal" role="alert">
            <span>{errorText(send.failed.code, send.failed.text)}</span>
            <button type="button" onClick={onAgain}>
              Try again
            </button>
            <button type="button" onClick={onDiscard}>
              Delete
            </button>
          </div>
        )}
      </div>
    </li>
  );
}
