//! A person at a browser: what one does and what one sees, by the roles and names that assistive technology sees too.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import type { BrowserContext, Locator, Page } from "playwright-core";

const CHROMIUM = process.env["HAWSER_CHROMIUM"] ?? "/usr/bin/chromium";
/** Chromium asks nobody outside: the tests run where there is no network. */
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const WAIT_MS = 30_000;
const STATUSES = ["waiting", "accepted", "sent", "delivered", "read"] as const;
export const SHOTS = process.env["HAWSER_SHOTS"];

/** A browser profile of one's own; two people are two profiles. */
export class Profile {
  private constructor(
    readonly context: BrowserContext,
    private readonly folder: string,
  ) {}

  static async open(options: { dark?: boolean; width?: number; height?: number } = {}): Promise<Profile> {
    const folder = mkdtempSync(join(tmpdir(), "hawser-chromium-"));
    const context = await chromium.launchPersistentContext(folder, {
      executablePath: CHROMIUM,
      headless: true,
      args: ARGUMENTS,
      colorScheme: options.dark ? "dark" : "light",
      viewport: { width: options.width ?? 1_100, height: options.height ?? 760 },
    });
    context.setDefaultTimeout(WAIT_MS);
    return new Profile(context, folder);
  }

  async person(url: string, user: string): Promise<Person> {
    const person = new Person(await this.context.newPage(), user, url);
    await person.load();
    return person;
  }

  async close(): Promise<void> {
    await this.context.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export class Person {
  /** What went wrong in the page by itself. */
  readonly errors: string[] = [];

  constructor(
    readonly page: Page,
    readonly user: string,
    private readonly url: string,
  ) {
    page.on("pageerror", (error) => this.errors.push(String(error)));
    page.on("console", (message) => {
      const refused = /ERR_CONNECTION_REFUSED|WebSocket connection|Failed to load resource/.test(message.text());
      if (message.type() === "error" && !refused) this.errors.push(message.text());
    });
  }

  async load(): Promise<void> {
    await this.page.goto(`${this.url}?user=${this.user}`);
    await this.page.locator(".shell").waitFor();
  }

  async live(): Promise<void> {
    await this.page.locator('.shell[data-phase="live"]').waitFor({ timeout: 60_000 });
  }

  async phase(): Promise<string | null> {
    return this.page.locator(".shell").getAttribute("data-phase");
  }

  /** Opens the chat with a person through "New chat". */
  async openDm(user: string): Promise<void> {
    await this.page.getByRole("button", { name: "New chat" }).click();
    await this.page.locator(`dialog [data-user="${user}"]`).click();
    await this.composer.waitFor();
  }

  async openChat(title: string): Promise<void> {
    await this.page.locator(".chat-row", { has: this.page.locator(".chat-title", { hasText: title }) }).click();
    await this.composer.waitFor();
  }

  get composer(): Locator {
    return this.page.getByRole("textbox", { name: "Message" });
  }

  async say(text: string): Promise<void> {
    await this.composer.fill(text);
    await this.composer.press("Enter");
  }

  bubble(text: string): Locator {
    return this.page.locator(".message", { has: this.page.getByText(text, { exact: true }) });
  }

  async sees(text: string): Promise<void> {
    await this.bubble(text).waitFor();
  }

  /** Waits until a message of ours has come so far, or further. */
  async status(text: string, status: (typeof STATUSES)[number]): Promise<void> {
    const enough = STATUSES.slice(STATUSES.indexOf(status)).map((s) => `.ticks[data-status="${s}"]`);
    await this.bubble(text).locator(enough.join(", ")).waitFor({ state: "attached" });
  }

  /** The texts of the open chat that are on the page, top to bottom. */
  async texts(): Promise<string[]> {
    return this.page.locator(".message .text").allTextContents();
  }

  async under(text: string | RegExp): Promise<void> {
    await this.page.locator(".head-under", { hasText: text }).waitFor();
  }

  async shot(name: string): Promise<void> {
    if (SHOTS === undefined) return;
    mkdirSync(SHOTS, { recursive: true });
    await this.page.waitForTimeout(300);
    await this.page.screenshot({ path: join(SHOTS, `${name}.png`) });
  }
}
