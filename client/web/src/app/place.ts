//! Which chat is open is in the address: `#/dm:alice:bob`. So Back goes back, and a reload stays.

import { baseOf, isChatId } from "../protocol/lanes";

export function chatOfHash(): string | undefined {
  const match = /^#\/(.+)$/.exec(location.hash);
  try {
    const chat = decodeURIComponent(match?.[1] ?? "");
    return isChatId(chat) ? baseOf(chat) : undefined;
  } catch {
    return undefined;
  }
}

export function goTo(chat: string | undefined): void {
  location.hash = chat === undefined ? "#/" : `#/${chat}`;
}
