//! Which chat is open is in the address: `#/dm:alice:bob`. So Back goes back, and a reload stays.

export function chatOfHash(): string | undefined {
  const match = /^#\/(.+)$/.exec(location.hash);
  try {
    return match ? decodeURIComponent(match[1] as string) : undefined;
  } catch {
    return undefined;
  }
}

export function goTo(chat: string | undefined): void {
  location.hash = chat === undefined ? "#/" : `#/${chat}`;
}
