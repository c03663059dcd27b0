"""A bot that offers a participant's media, holds the participant, and lets it go."""

import json
import urllib.error
import urllib.request

import stage


class Refused(Exception):
    """The engine's own words."""


class Bot:
    def __init__(self, engine, prompt):
        self.engine, self.prompt, self.participant = engine, prompt, None

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {stage.TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.engine + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=stage.PATIENCE) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            raise Refused(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def join(self, sdp):
        """A call with one participant, whose media is offered; the answer."""
        calls = "/v1.0/communications/calls"
        call = self.ask("POST", calls, {"callbackUri": "http://127.0.0.1:9/nobody"})
        participants = f"{calls}/{call['id']}/participants"
        made = self.ask("POST", participants, {"mediaLeg": {"sdp": sdp}})
        self.participant = f"{participants}/{made['id']}"
        return made["mediaLeg"]["sdp"]

    def hold(self, state=None):
        body = {"customPrompt": {"mediaInfo": {"uri": self.prompt}}}
        if state:
            body["holdMusic"] = {"rtpState": state}
        self.ask("POST", f"{self.participant}/startHoldMusic", body)

    def let_go(self):
        """Ends the hold; what the engine says it sent."""
        told = self.ask("POST", f"{self.participant}/stopHoldMusic", {})["holdMusic"]
        if "report" not in told:
            raise Refused(f"the hold had ended: {self.ask('GET', self.participant)['holdMusic']}")
        return told["report"]
