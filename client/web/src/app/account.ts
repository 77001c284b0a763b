//! Signing in: claims a device, opens its disk, and puts driver and model together.

import { demoLogin, Groups } from "../api/api";
import type { Login } from "../api/api";
import { finishSending, hasLeftovers } from "../device/leftover";
import { claimDevice, thisBrowser, withFreeDevices } from "../device/slot";
import { isUserId } from "../protocol/ids";
import type { Batch, Saved } from "../session/types";
import { Store } from "../store/store";
import { browserGround, Driver } from "../transport/driver";
import type { Listener } from "../transport/driver";
import { Model } from "./model";

/** A token is used for the HTTP API until this long before it expires, milliseconds. */
const TOKEN_MARGIN_MS = 30_000;
/** Other devices of this browser are looked after when the page has come to rest, milliseconds. */
const LEFTOVERS_AFTER_MS = 3_000;
const SIGNED_IN = "hawser-user";

/** Who this tab is signed in as: the address says it (`?user=alice`), or the tab remembers it. */
export function rememberedUser(): string | undefined {
  const asked = new URLSearchParams(location.search).get("user");
  const user = asked ?? sessionStorage.getItem(SIGNED_IN);
  return user !== null && isUserId(user) ? user : undefined;
}

/** Forgets who this tab is; what is on the disk stays. */
export function forgetUser(): void {
  sessionStorage.removeItem(SIGNED_IN);
}

/** Ends the session and begins the page anew. */
export function signOut(model: Model): void {
  model.stop();
  forgetUser();
  location.assign("/");
}

/** The address of the sessions, beside the page's own. */
function socketUrl(): string {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/ws`;
}

/** A page that came over TLS does not go on without it. */
function acceptsUrl(url: string): boolean {
  return (location.protocol === "https:" ? /^wss:\/\// : /^wss?:\/\//).test(url);
}

/** Tokens for one device: the last one as long as it lasts. */
class Tokens {
  private last: Login | undefined;
  constructor(
    private readonly user: string,
    private readonly device: string,
  ) {}

  async fresh(): Promise<Login> {
    this.last = await demoLogin(this.user, this.device);
    return this.last;
  }

  async any(): Promise<string> {
    const { last } = this;
    if (last && (last.expiresAtMs === 0 || last.expiresAtMs - TOKEN_MARGIN_MS > Date.now())) return last.token;
    return (await this.fresh()).token;
  }
}

interface Device {
  user: string;
  device: string;
  tokens: Tokens;
  saved: Saved;
  write: (batch: Batch) => Promise<void>;
}

function drive({ user, device, tokens, saved, write }: Device, listener: Listener): Driver {
  const config = { user, device, url: socketUrl(), client: "hawser-web/0.1.0", acceptsUrl };
  const ground = { ...browserGround(), login: () => tokens.fresh(), write };
  return new Driver(config, saved, ground, listener);
}

/**
 * Signs in. With what is on the disk the page works before (and without) a connection.
 * Throws when the browser gives no storage.
 */
export async function signIn(user: string): Promise<Model> {
  const device = await claimDevice(thisBrowser(), user);
  const store = await Store.open(indexedDB, user, device);
  const loaded = await store.load();
  const model = new Model(user, device);
  const tokens = new Tokens(user, device);
  const write = async (batch: Batch): Promise<void> => model.written(batch, await store.write(batch));
  const driver = drive(
    { user, device, tokens, saved: loaded.saved, write },
    { effect: (effect) => model.effect(effect), diskFailed: () => model.diskFailed() },
  );
  store.onLost(() => {
    model.diskFailed();
    driver.input((s, now) => s.stop(now));
  });
  model.attach(
    {
      input: (run) => driver.input(run),
      store,
      groups: new Groups(() => tokens.any()),
      nowMs: () => Date.now(),
      later: (ms, run) => setTimeout(run, ms),
    },
    loaded,
  );
  sessionStorage.setItem(SIGNED_IN, user);
  void navigator.storage?.persist?.().catch(() => false);
  window.addEventListener("online", () => model.nudge());
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") model.nudge();
  });
  model.start();
  setTimeout(() => {
    // Another page, or the next visit, tries again what fails here.
    withFreeDevices(thisBrowser(), user, (other) => sendLeftovers(user, other)).catch(() => {});
  }, LEFTOVERS_AFTER_MS);
  return model;
}

/** Sends what a device whose tab was closed has left unsent. */
async function sendLeftovers(user: string, device: string): Promise<void> {
  const store = await Store.open(indexedDB, user, device);
  try {
    const { saved } = await store.load();
    if (!hasLeftovers(saved)) return;
    const write = async (batch: Batch): Promise<void> => void (await store.write(batch));
    const driver = drive({ user, device, tokens: new Tokens(user, device), saved, write }, { effect: () => {}, diskFailed: () => {} });
    driver.input((s, now) => s.start(now));
    const worker = {
      pending: async () => (await store.load()).saved.pending.filter((send) => send.failed === undefined).length,
      stop: () => driver.input((s, now) => s.stop(now)),
    };
    await finishSending(worker, (ms) => new Promise((resolve) => setTimeout(resolve, ms)));
    await driver.flushed();
  } finally {
    store.close();
  }
}
