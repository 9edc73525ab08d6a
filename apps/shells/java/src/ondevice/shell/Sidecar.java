package ondevice.shell;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;

/**
 * The client of {@code ondevice stdio}: starts it, sends requests, hands out what comes back.
 * Knows nothing of terminals. Usable from any thread; listeners are called on the reading one.
 */
final class Sidecar {
    private static final int GOODBYE_SECONDS = 3;
    private static final int MOST_HEADER_BYTES = 4096;

    /** What the sidecar says is wrong with a request; the code as in docs/stdio.md. */
    static final class RequestException extends Exception {
        private static final long serialVersionUID = 1L;
        final int code;

        RequestException(int code, String message) {
            super(message);
            this.code = code;
        }
    }

    /** The sidecar ended, or sent what is no message. */
    static final class LostException extends IOException {
        private static final long serialVersionUID = 1L;

        LostException(String message) {
            super(message);
        }
    }

    /** Hears of a request on its way, before its result. */
    interface Listener {
        default void onStage(Pending request, JsonObject stage) {}

        default void onToken(Pending request, String text, boolean provisional) {}
    }

    /** A request on its way; its result or its exception come exactly once. */
    final class Pending {
        final CompletableFuture<JsonElement> result = new CompletableFuture<>();
        private final int id;
        private final Listener listener;

        private Pending(int id, Listener listener) {
            this.id = id;
            this.listener = listener;
        }

        /** Asks for its end; the result or an error comes all the same. */
        void cancel() {
            JsonObject params = new JsonObject();
            params.addProperty("id", id);
            send(message("$/cancel", params));
        }

        JsonElement await() throws RequestException, LostException {
            try {
                return result.join();
            } catch (CompletionException e) {
                if (e.getCause() instanceof RequestException refused) throw refused;
                if (e.getCause() instanceof LostException lost) throw lost;
                throw e;
            }
        }
    }

    private final Process process;
    private final OutputStream output;
    private final Map<Integer, Pending> pending = new HashMap<>();
    private int lastId;
    private LostException lost;

    Sidecar(List<String> command) throws IOException {
        process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        output = process.getOutputStream();
        Thread reader = new Thread(this::readAll, "sidecar");
        reader.setDaemon(true);
        reader.start();
    }

    long pid() {
        return process.pid();
    }

    /** The first request: returns {server, models, default}. */
    JsonObject initialize(String client) throws RequestException, LostException {
        JsonObject who = new JsonObject();
        who.addProperty("name", client);
        who.addProperty("version", "1");
        JsonObject can = new JsonObject();
        can.addProperty("consent", false);
        JsonObject params = new JsonObject();
        params.addProperty("protocol", 1);
        params.add("client", who);
        params.add("capabilities", can);
        return request("initialize", params, new Listener() {}).await().getAsJsonObject();
    }

    /** Sends a request; {@code params} may be null. */
    Pending request(String method, JsonElement params, Listener listener) {
        Pending request;
        synchronized (pending) {
            request = new Pending(++lastId, listener);
            if (lost != null) request.result.completeExceptionally(lost);
            else pending.put(request.id, request);
        }
        JsonObject message = message(method, params);
        message.addProperty("id", request.id);
        send(message);
        return request;
    }

    /** Ends every answer and the sidecar; returns its exit code. */
    int stop() throws InterruptedException {
        try {
            request("shutdown", null, new Listener() {}).await();
        } catch (RequestException | LostException e) {
            // it has ended already, or is about to
        }
        send(message("exit", null));
        try {
            output.close();
        } catch (IOException e) {
            // as above
        }
        if (!process.waitFor(GOODBYE_SECONDS, TimeUnit.SECONDS)) process.destroyForcibly();
        return process.waitFor();
    }

    private static JsonObject message(String method, JsonElement params) {
        JsonObject message = new JsonObject();
        message.addProperty("jsonrpc", "2.0");
        message.addProperty("method", method);
        if (params != null) message.add("params", params);
        return message;
    }

    private void send(JsonObject message) {
        byte[] body = message.toString().getBytes(StandardCharsets.UTF_8);
        String header = "Content-Length: " + body.length + "\r\n\r\n";
        synchronized (output) {
            try {
                output.write(header.getBytes(StandardCharsets.US_ASCII));
                output.write(body);
                output.flush();
            } catch (IOException e) {
                // the reader learns that it has ended
            }
        }
    }

    private void readAll() {
        try (InputStream input = new BufferedInputStream(process.getInputStream())) {
            while (true) take(JsonParser.parseString(read(input)).getAsJsonObject());
        } catch (IOException e) {
            fail("the sidecar ended: exit code " + process.onExit().join().exitValue());
        } catch (JsonParseException | IllegalStateException | NumberFormatException e) {
            process.destroyForcibly();
            fail("the sidecar sent something that is no message; it was ended");
        }
    }

    private static String read(InputStream input) throws IOException {
        int length = -1;
        int left = MOST_HEADER_BYTES;
        for (String line = readLine(input, left); !line.isEmpty(); line = readLine(input, left)) {
            left -= line.length();
            if (line.regionMatches(true, 0, "Content-Length:", 0, 15)) {
                length = Integer.parseInt(line.substring(15).strip());
            }
        }
        if (length < 0) throw new NumberFormatException("no Content-Length");
        byte[] body = input.readNBytes(length);
        if (body.length < length) throw new EOFException();
        return new String(body, StandardCharsets.UTF_8);
    }

    private static String readLine(InputStream input, int most) throws IOException {
        StringBuilder line = new StringBuilder();
        for (int c = input.read(); c != '\n'; c = input.read()) {
            if (c < 0) throw new EOFException();
            if (line.length() >= most) throw new NumberFormatException("no header");
            line.append((char) c);
        }
        return line.toString().stripTrailing();
    }

    private void take(JsonObject message) {
        if (!message.has("method")) {
            settle(message);
        } else if (message.has("id")) {
            refuse(message.get("id"));
        } else {
            tell(message.get("method").getAsString(), message.getAsJsonObject("params"));
        }
    }

    private void settle(JsonObject message) {
        Pending request;
        synchronized (pending) {
            request = pending.remove(message.get("id").getAsInt());
        }
        if (request == null) return;
        JsonObject error = message.getAsJsonObject("error");
        if (error == null) {
            request.result.complete(message.get("result"));
        } else {
            request.result.completeExceptionally(new RequestException(
                    error.get("code").getAsInt(), error.get("message").getAsString()));
        }
    }

    private void refuse(JsonElement id) {
        JsonObject error = new JsonObject();
        error.addProperty("code", -32601);
        error.addProperty("message", "this client answers no requests");
        JsonObject message = new JsonObject();
        message.addProperty("jsonrpc", "2.0");
        message.add("id", id);
        message.add("error", error);
        send(message);
    }

    private void tell(String method, JsonObject params) {
        Pending request;
        synchronized (pending) {
            request = pending.get(params.get("id").getAsInt());
        }
        if (request == null) return;
        switch (method) {
            case "$/stage" -> request.listener.onStage(request, params);
            case "$/token" -> request.listener.onToken(
                    request,
                    params.get("text").getAsString(),
                    params.get("provisional").getAsBoolean());
            default -> {} // of a later protocol
        }
    }

    private void fail(String why) {
        List<Pending> left;
        synchronized (pending) {
            lost = new LostException(why);
            left = List.copyOf(pending.values());
            pending.clear();
        }
        left.forEach(request -> request.result.completeExceptionally(lost));
    }
}
