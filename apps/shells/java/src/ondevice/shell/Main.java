package ondevice.shell;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import sun.misc.Signal;

/** A conversation in the terminal: Ctrl-C ends an answer, Ctrl-D the program. */
final class Main {
    private static final String CLEAR = "\r\033[K";
    static final PrintStream OUT =
            new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);

    private final Sidecar sidecar;
    private final BufferedReader input;
    private final JsonArray messages = new JsonArray();
    private volatile Sidecar.Pending answering;

    private Main(Sidecar sidecar, BufferedReader input) {
        this.sidecar = sidecar;
        this.input = input;
    }

    public static void main(String[] arguments) throws InterruptedException {
        boolean scripted = arguments.length > 0 && arguments[0].equals("--conformance");
        List<String> command = Arrays.asList(arguments).subList(scripted ? 1 : 0, arguments.length);
        if (!command.isEmpty() && command.get(0).startsWith("-")) {
            System.err.println("usage: [--conformance] [SIDECAR COMMAND: ondevice stdio]");
            System.exit(2);
        }
        System.exit(run(scripted, command.isEmpty() ? List.of("ondevice", "stdio") : command));
    }

    private static int run(boolean scripted, List<String> command) throws InterruptedException {
        Sidecar sidecar;
        try {
            sidecar = new Sidecar(command);
        } catch (IOException e) {
            System.err.println(e.getMessage());
            return 1;
        }
        BufferedReader input =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try {
            if (scripted) {
                new Conformance(sidecar).run(input);
                return 0;
            }
            new Main(sidecar, input).converse();
            return sidecar.stop();
        } catch (IOException | Sidecar.RequestException e) {
            System.err.println(e.getMessage());
            sidecar.stop();
            return 1;
        }
    }

    private void converse() throws IOException, Sidecar.RequestException {
        String model = sidecar.initialize("ondevice-shell-java").get("default").getAsString();
        show(model + " is ready. Ctrl-C ends an answer, Ctrl-D the program.\n> ");
        // Java has no public way to hear of Ctrl-C without ending; this one is in every JDK.
        Signal.handle(new Signal("INT"), signal -> onInterrupt());
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            if (!line.isBlank()) answer(line);
            show("> ");
        }
        show("\n");
    }

    private void onInterrupt() {
        Sidecar.Pending current = answering;
        if (current != null) current.cancel();
        else show("\n(Ctrl-D ends the program)\n> ");
    }

    /** Streams the answer to a question; both join the conversation. */
    private void answer(String question) throws Sidecar.LostException {
        add("user", question);
        JsonObject options = new JsonObject();
        options.addProperty("truncate", true);
        JsonObject params = new JsonObject();
        params.add("messages", messages.deepCopy());
        params.add("options", options);
        StringBuilder streamed = new StringBuilder();
        answering = sidecar.request("chat", params, new Screen(streamed));
        try {
            JsonObject result = answering.await().getAsJsonObject();
            String text = result.get("text").getAsString();
            // The result's text is the answer: shown anew where it is not what was streamed.
            if (!text.contentEquals(streamed)) show("\n[in place of the draft above:]\n" + text);
            show("\n" + statusLine(result) + "\n");
            add("assistant", text);
        } catch (Sidecar.RequestException e) {
            System.err.println(CLEAR + e.getMessage());
            messages.remove(messages.size() - 1);
        } finally {
            answering = null;
        }
    }

    private void add(String role, String content) {
        JsonObject message = new JsonObject();
        message.addProperty("role", role);
        message.addProperty("content", content);
        messages.add(message);
    }

    private static void show(String text) {
        OUT.print(text);
        OUT.flush();
    }

    /** The line under an answer: where it came from and how fast. */
    static String statusLine(JsonObject result) {
        JsonObject timings = result.getAsJsonObject("timings");
        String reason = result.get("reason").getAsString();
        return String.format(
                Locale.ROOT,
                "[%s: %s | TTFT %.0f ms | %.1f tokens/s | %d tokens | %s%s]",
                result.get("source").getAsString(),
                result.get("model").getAsString(),
                timings.get("ttft_ms").getAsDouble(),
                timings.get("decode_tps").getAsDouble(),
                result.getAsJsonObject("usage").get("output_tokens").getAsInt(),
                result.get("finish_reason").getAsString(),
                reason.isEmpty() ? "" : " | " + reason);
    }

    /** What a person sees of an answer on its way. */
    private record Screen(StringBuilder streamed) implements Sidecar.Listener {
        @Override
        public void onStage(Sidecar.Pending request, JsonObject stage) {
            String name = stage.get("stage").getAsString();
            String model = stage.get("model").getAsString();
            double seconds = stage.get("elapsed_ms").getAsDouble() / 1000;
            String text = String.format(Locale.ROOT, "%s %s, %.1f s", name, model, seconds);
            System.err.print(CLEAR + (name.equals("ready") ? "" : text));
        }

        @Override
        public void onToken(Sidecar.Pending request, String text, boolean provisional) {
            streamed.append(text);
            show(text);
        }
    }
}
