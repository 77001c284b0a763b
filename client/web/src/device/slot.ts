//! Which device a tab is. A browser keeps a list of devices per user; a tab takes the first one that no other tab
//! holds, so that one tab finds its store and unsent messages again, and two tabs are two devices.

export type LetGo = () => void;

/** What of the browser is used; tests bring their own. */
export interface Browser {
  /** Lives as long as the browser's profile. */
  lasting: Pick<Storage, "getItem" | "setItem">;
  /** Lives as long as the tab, reloads included. */
  tab: Pick<Storage, "getItem" | "setItem" | "removeItem">;
  /** Holds a name until it is let go or the tab is gone; undefined: another tab holds it. */
  hold(name: string, waitMs: number): Promise<LetGo | undefined>;
  random(): string;
}

/** A reloaded page may have to wait this long for its former self to let go, milliseconds. */
const RELOAD_WAIT_MS = 1_500;
/** Devices remembered per user; beyond it the oldest is forgotten. */
const DEVICES_MAX = 16;

/** Device ids of a user in this browser, first made first. */
export function devicesOf(browser: Pick<Browser, "lasting">, user: string): string[] {
  try {
    const list = JSON.parse(browser.lasting.getItem(key(user)) ?? "[]") as unknown;
    return Array.isArray(list) ? list.filter((id) => typeof id === "string" && /^[a-z0-9-]{1,32}$/.test(id)) : [];
  } catch {
    return [];
  }
}

/** Claims a device of the user for this tab. */
export async function claimDevice(browser: Browser, user: string): Promise<string> {
  const before = browser.tab.getItem(key(user));
  if (before !== null && (await browser.hold(lock(user, before), RELOAD_WAIT_MS))) return before;
  for (const device of devicesOf(browser, user)) {
    if (device !== before && (await browser.hold(lock(user, device), 0))) return keep(browser, user, device);
  }
  const device = `web-${browser.random()}`;
  await browser.hold(lock(user, device), 0);
  const list = [...devicesOf(browser, user), device];
  browser.lasting.setItem(key(user), JSON.stringify(list.slice(-DEVICES_MAX)));
  return keep(browser, user, device);
}

function keep(browser: Browser, user: string, device: string): string {
  browser.tab.setItem(key(user), device);
  return device;
}

function key(user: string): string {
  return `hawser-devices-${user}`;
}

/** Devices of the user that no tab is now, one after the other, held meanwhile. */
export async function withFreeDevices(browser: Browser, user: string, run: (device: string) => Promise<void>): Promise<void> {
  for (const device of devicesOf(browser, user)) {
    const letGo = await browser.hold(lock(user, device), 0);
    if (!letGo) continue;
    await run(device).finally(letGo);
  }
}

/** The name of the lock that says that a tab is this device. */
function lock(user: string, device: string): string {
  return `hawser-device-${user}-${device}`;
}

/** The real browser. Without Web Locks (an insecure origin) every tab is a device of its own. */
export function thisBrowser(): Browser {
  const locks = "locks" in navigator ? navigator.locks : undefined;
  return {
    lasting: locks ? localStorage : sessionStorage,
    tab: sessionStorage,
    random: () => Array.from(crypto.getRandomValues(new Uint8Array(5)), (b) => b.toString(16).padStart(2, "0")).join(""),
    hold: async (name, waitMs) => (locks ? holdLock(locks, name, waitMs) : () => {}),
  };
}

function holdLock(locks: LockManager, name: string, waitMs: number): Promise<LetGo | undefined> {
  const options = waitMs === 0 ? { ifAvailable: true } : { signal: AbortSignal.timeout(waitMs) };
  return new Promise((resolve) => {
    const hold = (held: Lock | null): Promise<void> | undefined => {
      if (held === null) {
        resolve(undefined);
        return undefined;
      }
      return new Promise((letGo) => resolve(letGo));
    };
    locks.request(name, options, hold).catch(() => resolve(undefined));
  });
}
