import { describe, expect, it } from "vitest";
import { claimDevice, devicesOf, withFreeDevices } from "../src/device/slot";
import type { Browser, LetGo } from "../src/device/slot";

/** A browser profile whose tabs share what lasts, and the locks. */
class Profile {
  private readonly lasting = new Map<string, string>();
  private readonly holders = new Map<string, Tab>();
  private made = 0;

  tab(session = new Map<string, string>()): Tab {
    return new Tab(this, session);
  }
  get storage(): Browser["lasting"] {
    const { lasting } = this;
    return { getItem: (k) => lasting.get(k) ?? null, setItem: (k, v) => void lasting.set(k, v) };
  }
  hold(name: string, tab: Tab): boolean {
    if (this.holders.has(name)) return false;
    this.holders.set(name, tab);
    return true;
  }
  letGo(name: string): void {
    this.holders.delete(name);
  }
  close(tab: Tab): void {
    for (const [name, holder] of this.holders) if (holder === tab) this.holders.delete(name);
  }
  next(): string {
    this.made += 1;
    return String(this.made);
  }
}

class Tab implements Browser {
  constructor(
    private readonly profile: Profile,
    readonly session: Map<string, string>,
  ) {}
  get lasting(): Browser["lasting"] {
    return this.profile.storage;
  }
  get tab(): Browser["tab"] {
    const { session } = this;
    return {
      getItem: (k) => session.get(k) ?? null,
      setItem: (k, v) => void session.set(k, v),
      removeItem: (k) => void session.delete(k),
    };
  }
  async hold(name: string): Promise<LetGo | undefined> {
    return this.profile.hold(name, this) ? () => this.profile.letGo(name) : undefined;
  }
  random(): string {
    return this.profile.next();
  }
}

describe("the device of a tab", () => {
  it("a browser that is opened again is the same device", async () => {
    const profile = new Profile();
    const first = profile.tab();
    const device = await claimDevice(first, "alice");
    profile.close(first);
    expect(await claimDevice(profile.tab(), "alice")).toBe(device);
  });

  it("two tabs of one user are two devices, a third takes the one that was closed", async () => {
    const profile = new Profile();
    const first = profile.tab();
    const a = await claimDevice(first, "alice");
    const b = await claimDevice(profile.tab(), "alice");
    expect(b).not.toBe(a);
    profile.close(first);
    expect(await claimDevice(profile.tab(), "alice")).toBe(a);
    expect(devicesOf(first, "alice")).toEqual([a, b]);
  });

  it("a reload keeps the tab's device, a duplicated tab gets another", async () => {
    const profile = new Profile();
    const first = profile.tab();
    await claimDevice(first, "alice");
    const second = profile.tab();
    const b = await claimDevice(second, "alice");
    profile.close(first);
    profile.close(second);
    const reloaded = profile.tab(second.session);
    expect(await claimDevice(reloaded, "alice")).toBe(b);
    const duplicate = profile.tab(new Map(second.session));
    expect(await claimDevice(duplicate, "alice")).not.toBe(b);
  });

  it("devices that no tab is are visited, and let go again", async () => {
    const profile = new Profile();
    const [first, second, third] = [profile.tab(), profile.tab(), profile.tab()];
    await claimDevice(first, "alice");
    const b = await claimDevice(second, "alice");
    const c = await claimDevice(third, "alice");
    profile.close(second);
    profile.close(third);
    const visited: string[] = [];
    const visit = async (device: string): Promise<void> => void visited.push(device);
    await withFreeDevices(first, "alice", visit);
    expect(visited).toEqual([b, c]);
    expect(await claimDevice(profile.tab(), "alice")).toBe(b);
  });

  it("users do not share devices, and nonsense in the storage is not believed", async () => {
    const profile = new Profile();
    const tab = profile.tab();
    expect(await claimDevice(tab, "alice")).not.toBe(await claimDevice(tab, "bob"));
    profile.storage.setItem("hawser-devices-carol", '[1,"../x","ok-1"]');
    expect(devicesOf(tab, "carol")).toEqual(["ok-1"]);
    profile.storage.setItem("hawser-devices-carol", "{");
    expect(devicesOf(tab, "carol")).toEqual([]);
  });
});
