//! Signing in: claims a device, opens its disk, and puts driver and model together.

import { demoLogin, Groups } from "../api/api";
import type { Login } from "../api/api";
import { claimDevice, thisBrowser } from "../device/slot";
import { isUserId } from "../protocol/ids";
import { Store } from "../store/store";
import { browserGround, Driver } from "../transport/driver";
import { Model } from "./model";

/** A token is used for the HTTP API until this long before it expires, milliseconds. */
const TOKEN_MARGIN_MS = 30_000;
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
  const config = {
    user,
    device,
    url: socketUrl(),
    client: "hawser-web/0.1.0",
    acceptsUrl: (url: string) => new RegExp(location.protocol === "https:" ? "^wss://" : "^wss?://").test(url),
  };
  const ground = {
    ...browserGround(),
    login: () => tokens.fresh(),
    write: async (batch: Parameters<Store["write"]>[0]) => model.written(batch, await store.write(batch)),
  };
  const driver = new Driver(config, loaded.saved, ground, {
    effect: (effect) => model.effect(effect),
    diskFailed: () => model.diskFailed(),
  });
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
  return model;
}
