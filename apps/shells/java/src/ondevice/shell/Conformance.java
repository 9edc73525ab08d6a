package ondevice.shell;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;

/**
 * The mode that apps/shells/conformance.py talks with; see "Conformance mode" in docs/shells.md.
 */
final class Conformance {
    private static final Gson JSON =
            new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

    private final Sidecar sidecar;
    private final Map<String, Follower> followers = new HashMap<>();

    Conformance(Sidecar sidecar) {
        this.sidecar = sidecar;
    }

    /** Does what each line says. Throws LostException where the sidecar ends before. */
    void run(BufferedReader commands)
            throws IOException, Sidecar.RequestException, InterruptedException {
        try {
            print("started", event -> event.addProperty("pid", sidecar.pid()));
            JsonObject server = sidecar.initialize("ondevice-shell-java");
            print("ready", event -> event.add("result", server));
            for (String line = commands.readLine(); line != null; line = commands.readLine()) {
                obey(JsonParser.parseString(line).getAsJsonObject());
            }
            int code = sidecar.stop();
            for (Follower follower : followers.values()) follower.finish();
            print("closed", event -> event.addProperty("code", code));
        } catch (Sidecar.LostException e) {
            print("lost", event -> event.addProperty("message", e.getMessage()));
            throw e;
        }
    }

    private void obey(JsonObject command) throws Sidecar.LostException {
        String tag = command.get("tag").getAsString();
        switch (command.get("do").getAsString()) {
            case "request" -> followers.put(tag, new Follower(tag, command));
            case "wait" -> followers.get(tag).finish();
            default -> throw new IllegalArgumentException("not a command of a transcript");
        }
    }

    private interface Fields {
        void fill(JsonObject event);
    }

    private static synchronized void print(String name, Fields fields) {
        JsonObject event = new JsonObject();
        event.addProperty("event", name);
        fields.fill(event);
        Main.OUT.println(JSON.toJson(event));
        Main.OUT.flush();
    }

    /** Prints what comes of one request. */
    private final class Follower implements Sidecar.Listener {
        private final String tag;
        private final int cancelAfter;
        private final Sidecar.Pending request;
        private int tokens;
        private boolean finished;

        Follower(String tag, JsonObject command) {
            this.tag = tag;
            JsonElement after = command.get("cancel_after");
            cancelAfter = after == null ? -1 : after.getAsInt();
            request = sidecar.request(
                    command.get("method").getAsString(), command.get("params"), this);
            if (cancelAfter == 0) request.cancel();
        }

        @Override
        public void onStage(Sidecar.Pending of, JsonObject stage) {
            print("stage", event -> {
                event.addProperty("tag", tag);
                for (String name : new String[] {"stage", "model", "ahead"}) {
                    event.add(name, stage.get(name));
                }
            });
        }

        @Override
        public void onToken(Sidecar.Pending of, String text, boolean provisional) {
            print("token", event -> {
                event.addProperty("tag", tag);
                event.addProperty("text", text);
                event.addProperty("provisional", provisional);
            });
            if (++tokens == cancelAfter) of.cancel();
        }

        /** Waits for the result or the error and prints it, once. */
        void finish() throws Sidecar.LostException {
            if (finished) return;
            finished = true;
            try {
                JsonElement result = request.await();
                print("result", event -> {
                    event.addProperty("tag", tag);
                    event.add("result", result);
                    if (result.isJsonObject() && result.getAsJsonObject().has("timings")) {
                        event.addProperty("line", Main.statusLine(result.getAsJsonObject()));
                    }
                });
            } catch (Sidecar.RequestException e) {
                print("error", event -> {
                    event.addProperty("tag", tag);
                    event.addProperty("code", e.code);
                    event.addProperty("message", e.getMessage());
                });
            }
        }
    }
}
