//! The page: somebody signs in, or is signed in.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { forgetUser, rememberedUser, signIn } from "../app/account";
import type { Model } from "../app/model";
import { Login } from "./login";
import { Shell } from "./shell";

export function App(): JSX.Element {
  const [user, setUser] = useState(rememberedUser);
  const [model, setModel] = useState<Model>();
  const [problem, setProblem] = useState("");

  useEffect(() => {
    if (user === undefined) return;
    let current = true;
    signIn(user).then(
      (signedIn) => current && setModel(signedIn),
      (error: unknown) => {
        if (!current) return;
        forgetUser();
        setUser(undefined);
        setProblem(`This browser gives no storage for messages (${String(error)}). Is it a private window?`);
      },
    );
    return () => {
      current = false;
    };
  }, [user]);

  if (user === undefined) return <Login problem={problem} onUser={setUser} />;
  if (!model) return <div class="splash" role="status" aria-label="Opening your messages" />;
  return <Shell model={model} />;
}
