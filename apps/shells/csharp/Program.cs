// A conversation in the terminal: Ctrl-C ends an answer, Ctrl-D (Ctrl-Z and Enter on Windows) the program.

using System.ComponentModel;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Ondevice.Shell;

const string clear = "\r\u001b[K";
var scripted = args is ["--conformance", ..];
string[] command = scripted ? args[1..] : args;
if (command is [['-', ..], ..])
{
    Console.Error.WriteLine("usage: OndeviceShell [--conformance] [SIDECAR COMMAND: ondevice stdio]");
    return 2;
}
var utf8 = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
using var output = new StreamWriter(Console.OpenStandardOutput(), utf8) { AutoFlush = true, NewLine = "\n" };
using var input = scripted || Console.IsInputRedirected
    ? new StreamReader(Console.OpenStandardInput(), utf8)
    : Console.In;
Sidecar sidecar;
try
{
    sidecar = new Sidecar(command.Length > 0 ? command : ["ondevice", "stdio"]);
}
catch (Win32Exception error)
{
    Console.Error.WriteLine(error.Message);
    return 1;
}
try
{
    if (scripted)
    {
        await new Conformance(sidecar, output).Run(input);
        return 0;
    }
    await Converse();
    return await sidecar.Stop();
}
catch (Exception error) when (error is LostException or RequestException)
{
    Console.Error.WriteLine(error.Message);
    await sidecar.Stop();
    return 1;
}

async Task Converse()
{
    Pending? answering = null;
    var server = await sidecar.Initialize("ondevice-shell-csharp");
    output.Write($"{server["default"]} is ready. Ctrl-C ends an answer, Ctrl-D the program.\n> ");
    Console.CancelKeyPress += (_, pressed) =>
    {
        pressed.Cancel = true; // the program goes on
        if (answering is { } current) current.Cancel();
        else output.Write("\n(Ctrl-D ends the program)\n> ");
    };
    var messages = new JsonArray();
    while (await input.ReadLineAsync() is { } line)
    {
        if (line.Trim().Length > 0)
        {
            messages.Add(Message("user", line));
            await Show(messages, request => answering = request);
            answering = null;
        }
        output.Write("> ");
    }
    output.WriteLine();
}

// Streams the answer to the last message, and adds it.
async Task Show(JsonArray messages, Action<Pending> begun)
{
    var streamed = new StringBuilder();
    var parameters = new JsonObject
    {
        ["messages"] = messages.DeepClone(),
        ["options"] = new JsonObject { ["truncate"] = true },
    };
    var request = sidecar.Request("chat", parameters, ShowStage, (_, token) =>
    {
        var text = token["text"]!.GetValue<string>();
        streamed.Append(text);
        output.Write(text);
    });
    begun(request);
    try
    {
        var result = (await request.Result)!.AsObject();
        var text = result["text"]!.GetValue<string>();
        // The result's text is the answer: shown anew where it is not what was streamed.
        if (text != streamed.ToString()) output.Write($"\n[in place of the draft above:]\n{text}");
        output.WriteLine($"\n{Status.Line(result)}");
        messages.Add(Message("assistant", text));
    }
    catch (RequestException error)
    {
        Console.Error.WriteLine(clear + error.Message);
        messages.RemoveAt(messages.Count - 1);
    }
}

void ShowStage(JsonObject stage)
{
    var name = stage["stage"]!.GetValue<string>();
    var seconds = stage["elapsed_ms"]!.GetValue<double>() / 1000;
    var text = string.Create(CultureInfo.InvariantCulture, $"{name} {stage["model"]}, {seconds:F1} s");
    Console.Error.Write(clear + (name == "ready" ? "" : text));
}

static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };
