// A bot's callback: takes notifications on loopback and believes only what the engine's published key has signed.

import { createServer } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";

const PATIENCE_MS = 20_000; // A start operation ends within 20 s of its acceptance.

// Answers 202 to a notification with a good token, 401 to any other, and keeps the good ones in order.
export class Callback {
  notifications = [];
  tokens = [];
  refused = [];
  #waiting = [];

  static async open(engine, appId, tenantId) {
    const callback = new Callback();
    callback.discovery = await (await fetch(`${engine}/v1/.well-known/OpenIdConfiguration`)).json();
    callback.appId = appId;
    callback.tenantId = tenantId;
    callback.forgetKeys();
    callback.server = createServer((request, response) => callback.#take(request, response));
    await new Promise((done) => callback.server.listen(0, "127.0.0.1", done));
    callback.url = `http://127.0.0.1:${callback.server.address().port}/callback`;
    return callback;
  }

  forgetKeys() {
    this.keys = createRemoteJWKSet(new URL(this.discovery.jwks_uri), { cooldownDuration: 0 });
  }

  async #take(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const [scheme, token = ""] = (request.headers.authorization ?? "").split(" ");
    try {
      if (scheme !== "Bearer") throw new Error(`the scheme is ${scheme}`);
      await this.verify(token);
      for (const one of JSON.parse(Buffer.concat(chunks)).value) {
        this.notifications.push({ ...one, messageId: request.headers["x-microsoft-skype-message-id"] });
        this.tokens.push(token);
      }
      response.writeHead(202).end();
    } catch (error) {
      this.refused.push(`${error.code ?? error.name}: ${error.message}`);
      response.writeHead(401).end();
    }
    this.#waiting.forEach((look) => look());
  }

  // The claims of a good token; throws for any other.
  async verify(token) {
    const { payload } = await jwtVerify(token, this.keys, {
      algorithms: ["RS256"],
      audience: this.appId,
      issuer: this.discovery.issuer,
      requiredClaims: ["aud", "iss", "iat", "nbf", "exp", "tid"],
    });
    if (payload.tid !== this.tenantId) throw new Error(`tid is ${payload.tid}`);
    return payload;
  }

  // The notification that ends the operation with this client context.
  operationEnded(context) {
    return this.wait((one) => one.changeType === "deleted" && one.resourceData?.clientContext === context);
  }

  // The first notification that is wanted.
  wait(wanted) {
    return new Promise((done, fail) => {
      const look = () => {
        const found = this.notifications.find(wanted);
        if (found) finish(() => done(found));
      };
      const finish = (end) => {
        clearTimeout(timer);
        this.#waiting = this.#waiting.filter((one) => one !== look);
        end();
      };
      const words = () => `no such notification; ${this.notifications.length} others, refused: ${this.refused}`;
      const timer = setTimeout(() => finish(() => fail(new Error(words()))), PATIENCE_MS);
      this.#waiting.push(look);
      look();
    });
  }

  close() {
    this.server.close();
    this.server.closeAllConnections();
  }
}

// The same token with one bit of its claims or its signature changed.
export function flipped(token, part) {
  const parts = token.split(".");
  const bytes = Buffer.from(parts[part], "base64url");
  bytes[bytes.length >> 1] ^= 1;
  parts[part] = bytes.toString("base64url");
  return parts.join(".");
}
