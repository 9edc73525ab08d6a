using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Ondevice.Shell;

/// <summary>The mode that apps/shells/conformance.py talks with; see "Conformance mode" in docs/shells.md.</summary>
sealed class Conformance(Sidecar sidecar, TextWriter output)
{
    static readonly JsonSerializerOptions Plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    readonly Dictionary<string, Task> over = [];

    /// <summary>Does what each line says. Throws <see cref="LostException"/> where the sidecar ends before.</summary>
    public async Task Run(TextReader commands)
    {
        try
        {
            Print("started", new JsonObject { ["pid"] = sidecar.Pid });
            var server = await sidecar.Initialize("ondevice-shell-csharp");
            Print("ready", new JsonObject { ["result"] = server.DeepClone() });
            while (await commands.ReadLineAsync() is { } line) await Obey(JsonNode.Parse(line)!.AsObject());
            var code = await sidecar.Stop();
            await Task.WhenAll(over.Values);
            Print("closed", new JsonObject { ["code"] = code });
        }
        catch (LostException error)
        {
            Print("lost", new JsonObject { ["message"] = error.Message });
            throw;
        }
    }

    Task Obey(JsonObject command)
    {
        var tag = command["tag"]!.GetValue<string>();
        switch (command["do"]!.GetValue<string>())
        {
            case "wait":
                return over[tag];
            case "request":
                over[tag] = Follow(tag, command);
                return Task.CompletedTask;
            default:
                throw new InvalidOperationException("not a command of a transcript");
        }
    }

    /// <summary>Sends a request and prints what comes of it.</summary>
    async Task Follow(string tag, JsonObject command)
    {
        var cancelAfter = command["cancel_after"]?.GetValue<int>();
        var tokens = 0;
        var request = sidecar.Request(
            command["method"]!.GetValue<string>(),
            command["params"]?.DeepClone(),
            stage => Print("stage", Fields(tag, stage, "stage", "model", "ahead")),
            (of, token) =>
            {
                Print("token", Fields(tag, token, "text", "provisional"));
                if (++tokens == cancelAfter) of.Cancel();
            });
        if (cancelAfter == 0) request.Cancel();
        try
        {
            var result = await request.Result;
            var fields = new JsonObject { ["tag"] = tag, ["result"] = result?.DeepClone() };
            if (result?["timings"] is not null) fields["line"] = Status.Line(result.AsObject());
            Print("result", fields);
        }
        catch (RequestException error)
        {
            Print("error", new JsonObject { ["tag"] = tag, ["code"] = error.Code, ["message"] = error.Message });
        }
    }

    static JsonObject Fields(string tag, JsonObject from, params string[] names)
    {
        var fields = new JsonObject { ["tag"] = tag };
        foreach (var name in names) fields[name] = from[name]?.DeepClone();
        return fields;
    }

    void Print(string name, JsonObject fields)
    {
        var line = new JsonObject { ["event"] = name };
        foreach (var (key, value) in fields) line[key] = value?.DeepClone();
        lock (output) output.WriteLine(line.ToJsonString(Plain));
    }
}
